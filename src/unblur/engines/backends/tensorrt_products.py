"""TensorRT and TensorRT for RTX: engine files of each precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unblur.core.errors import InputError
from unblur.engines.engine import Engine, Opening, Precision
from unblur.engines.tensorrt.product import PACKAGES, Device, ProductName
from unblur.engines.tensorrt.targets import supports

if TYPE_CHECKING:
    from unblur.engines.runner import Runner

BUILT: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "fp8")


def engine_name(product: ProductName, precision: str) -> str:
    """What the engine is called that runs a product's engine files of a precision."""
    return product if precision == "fp32" else f"{product}-{precision}"


def _engine(product: ProductName, module: str, precision: Precision) -> Engine:
    def open_it(opening: Opening) -> Runner:
        from unblur.engines.tensorrt.runner import TensorRtRunner

        file = opening.engine
        if (file.product, file.precision) != (product, precision):
            actual = engine_name(file.product, file.precision)
            raise InputError(f"{opening.name}: {file.path} is {file.precision} of {file.product}; open it as {actual}.")
        return TensorRtRunner(opening.name, file, gpu=opening.gpu)

    def runs_on(device: Device) -> bool:
        return supports(product, device)

    return Engine(
        engine_name(product, precision),
        product,
        precision,
        "engine",
        "cuda",
        PACKAGES[product],
        module,
        open_it,
        f"{'TensorRT for RTX' if product == 'tensorrt-rtx' else 'TensorRT'}, {precision}",
        supports=runs_on,
    )


PRODUCTS: tuple[tuple[ProductName, str], ...] = (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx"))

ENGINES = tuple(_engine(product, module, precision) for product, module in PRODUCTS for precision in BUILT)
