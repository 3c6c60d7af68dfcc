"""The one place that picks the TensorRT product, and asks the driver before any TensorRT object is made.

Two products share one API and one strongly typed ONNX. `tensorrt` (data-centre, libnvinfer) searches its kernels on
the GPU at hand and cannot compile without one; `tensorrt-rtx` compiles ahead of time for GPU families, without any.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from unblur.core.errors import MissingRuntimeError

ProductName = Literal["tensorrt", "tensorrt-rtx"]
Flavor = Literal["auto", "tensorrt", "tensorrt-rtx"]
FLAVORS: tuple[Flavor, ...] = ("auto", "tensorrt", "tensorrt-rtx")

OLDEST_TENSORRT = (10, 16)
"""Oldest data-centre release whose names the builder and the runners use."""

PACKAGES: dict[ProductName, frozenset[str]] = {
    "tensorrt": frozenset({"tensorrt", "tensorrt-cu12", "tensorrt-cu13"}),
    "tensorrt-rtx": frozenset({"tensorrt-rtx-cu13", "tensorrt-rtx-cu12"}),
}
"""Distributions that bring each product."""

_MODULES: dict[ProductName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_CURES: dict[ProductName, str] = {
    "tensorrt": "TensorRT is not installed ({}); pip install tensorrt, version 10.16 or later (Linux and Windows, with "
    "an NVIDIA GPU and driver).",
    "tensorrt-rtx": 'TensorRT for RTX is not installed ({}); pip install -e ".[tensorrt]" '
    "(the package tensorrt-rtx-cu13: Linux x86-64 and AArch64, Windows x64). It compiles without a GPU.",
}


@dataclass(frozen=True)
class Product:
    """An importable TensorRT: `module` is `tensorrt` or `tensorrt_rtx`, `version` as it states itself."""

    name: ProductName
    module: Any
    version: str


@dataclass(frozen=True)
class Device:
    """A GPU as the driver tells it: `target` is its family, such as "sm89"; `memory_bytes` all it has."""

    name: str
    target: str
    memory_bytes: int


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver: `cuda_version` is the newest CUDA it speaks, as CUDA writes it (13000 is 13.0).

    `version`: its own, such as "580.65.06"; "" where its management library does not answer.
    """

    cuda_version: int
    devices: tuple[Device, ...]
    version: str = ""


def open_product(flavor: Flavor = "auto") -> Product:
    """Import the product asked for.

    "auto" takes the data-centre product where it can be imported: it is only there by intent (nothing of unblur
    depends on it), and it searches on the very GPU; everywhere else TensorRT for RTX. Raises MissingRuntimeError,
    with the way to get it, where none can be imported or the release is too old.
    """
    wanted: list[ProductName] = ["tensorrt", "tensorrt-rtx"] if flavor == "auto" else [flavor]
    missing = ""
    for name in wanted:
        try:
            module = importlib.import_module(_MODULES[name])
        except (ImportError, OSError) as error:  # bindings whose libraries are missing raise either
            missing = _CURES[name].format(str(error).splitlines()[0] if str(error) else type(error).__name__)
            continue
        version = str(module.__version__)
        if name == "tensorrt" and _numbers(version) < OLDEST_TENSORRT:
            raise MissingRuntimeError(
                f"TensorRT {version} is installed, unblur needs 10.16 or later; pip install -U tensorrt."
            )
        return Product(name, module, version)
    raise MissingRuntimeError(missing)


def probe_driver(product: Product | None = None) -> Driver:
    """Ask libcuda itself, without TensorRT: libnvinfer's Runtime ends the whole process where no driver answers.

    Raises MissingRuntimeError where there is no driver, no device, or a driver older than the CUDA release the
    product's package was built with.
    """
    try:
        cuda = load_libcuda()
    except OSError as error:
        raise MissingRuntimeError(
            f"No NVIDIA driver is installed ({error}); install one, or compile with --flavor tensorrt-rtx, which needs "
            "none."
        ) from error
    status = int(cuda.cuInit(0))
    if status == _NO_DEVICE:
        raise MissingRuntimeError("The NVIDIA driver finds no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES.")
    if status:
        raise MissingRuntimeError(f"The NVIDIA driver does not start (cuInit gives error {status}); check nvidia-smi.")
    version = _integer(cuda.cuDriverGetVersion)
    needed = _needed_cuda(product)
    if version < needed:
        assert product is not None
        raise MissingRuntimeError(
            f"The NVIDIA driver is too old: it speaks CUDA {_dotted(version)}, {product.name} {product.version} needs "
            f"{_dotted(needed)}; install a newer driver."
        )
    count = _integer(cuda.cuDeviceGetCount)
    if count == 0:
        raise MissingRuntimeError("The NVIDIA driver finds no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES.")
    return Driver(version, tuple(_device(cuda, k) for k in range(count)), _driver_version())


def find_device(number: int, product: Product | None = None) -> Device:
    """The GPU of that number, among those in CUDA_VISIBLE_DEVICES.

    Raises as `probe_driver`, and MissingRuntimeError for a number that no GPU has.
    """
    devices = probe_driver(product).devices
    if number >= len(devices):
        known = ", ".join(f"cuda:{k} {device.name}" for k, device in enumerate(devices))
        raise MissingRuntimeError(f"There is no GPU cuda:{number}; the driver finds {known}.")
    return devices[number]


def driver_version() -> str:
    """What the driver calls itself, or the CUDA that it speaks where nothing tells. Raises as `probe_driver`."""
    driver = probe_driver()
    return driver.version or f"cuda {_dotted(driver.cuda_version)}"


def load_libcuda() -> Any:
    """The driver's library. Raises OSError where there is none."""
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def load_libnvml() -> Any:
    """The driver's management library, which comes with it. Raises OSError where there is none."""
    return ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")


@cache
def _driver_version() -> str:
    """Asked once: where nothing holds the GPUs ready (no persistence mode), the library wakes them up each time."""
    try:
        nvml = load_libnvml()
    except OSError:
        return ""
    text = ctypes.create_string_buffer(80)  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
    if nvml.nvmlInit_v2():
        return ""
    try:
        return "" if nvml.nvmlSystemGetDriverVersion(text, len(text)) else text.value.decode(errors="replace")
    finally:
        nvml.nvmlShutdown()


# Values of the CUDA driver API (cuda.h), which are part of its ABI.
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


def _device(cuda: Any, k: int) -> Device:
    name = ctypes.create_string_buffer(256)
    memory = ctypes.c_size_t()
    handle = _integer(cuda.cuDeviceGet, k)
    _demand(cuda.cuDeviceGetName(name, len(name), handle), "cuDeviceGetName")
    _demand(cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle), "cuDeviceTotalMem_v2")
    major, minor = (_integer(cuda.cuDeviceGetAttribute, attribute, handle) for attribute in (_MAJOR, _MINOR))
    return Device(name.value.decode(), f"sm{major}{minor}", memory.value)


def _integer(function: Callable[..., int], *arguments: int) -> int:
    """What a driver function writes through its first argument, an int."""
    value = ctypes.c_int()
    _demand(function(ctypes.byref(value), *arguments), getattr(function, "__name__", "a driver function"))
    return value.value


def _demand(status: int, what: str) -> None:
    if status:
        raise MissingRuntimeError(f"The NVIDIA driver fails ({what} gives error {status}); check nvidia-smi.")


def _needed_cuda(product: Product | None) -> int:
    """CUDA's minor-version compatibility: a package for CUDA 13 runs on every driver that speaks 13.0 or later."""
    if product is None:
        return 0
    stem = _MODULES[product.name]
    for major in (13, 12):
        try:
            found = importlib.metadata.version(f"{stem}_cu{major}_bindings")
        except importlib.metadata.PackageNotFoundError:
            continue
        if found == product.version:
            return major * 1000
    return 12000  # no wheel, such as a system package: CUDA 12 is the oldest that these releases are built for


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
