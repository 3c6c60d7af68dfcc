"""Targets: named, the GPU at hand, none."""

from __future__ import annotations

import pytest
from fake_libcuda import FakeCuda

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.engines.tensorrt import product as tensorrt_product
from unblur.engines.tensorrt.product import Product
from unblur.engines.tensorrt.targets import TARGETS, parse_targets, resolve_targets

RTX, TENSORRT = Product("tensorrt-rtx", None, "1.7.1.116"), Product("tensorrt", None, "11.4.0.106")


def test_words() -> None:
    assert parse_targets(None) == ()
    assert parse_targets("sm89, SM120,sm89") == ("sm89", "sm120")
    assert parse_targets("current") == ("current",)
    with pytest.raises(InputError, match=r"Unknown target 'sm98'.*sm89"):
        parse_targets("sm98")
    with pytest.raises(InputError, match="stands alone"):
        parse_targets("current,sm89")


def test_a_gpu_by_its_name_is_its_family() -> None:
    assert parse_targets("RTX 4090") == ("sm89",)
    assert parse_targets("nvidia geforce rtx 5090, L4,A100") == ("sm120", "sm89", "sm80")
    with pytest.raises(
        InputError, match=r"Unknown target 'RTX 4900', did you mean 'RTX 4090'\?; known: sm75.*5090 \(sm"
    ):
        parse_targets("RTX 4900")
    with pytest.raises(InputError, match=r"Unknown target 'Voodoo 2'; known: sm75"):
        parse_targets("Voodoo 2")
    with pytest.raises(InputError, match=r"H100 is sm90, for which TensorRT for RTX compiles nothing"):
        parse_targets("H100")
    with pytest.raises(InputError, match=r"Unknown target 'curent', did you mean 'current'\?"):
        parse_targets("curent")


def test_the_gpu_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_targets(RTX, ("sm75",)) == (("sm75",), None)  # no driver is asked
    with pytest.raises(MissingRuntimeError, match="No NVIDIA driver"):
        resolve_targets(TENSORRT, ())
    monkeypatch.setattr(tensorrt_product, "load_libcuda", lambda: FakeCuda(13000))
    for product, asked in [(RTX, "current"), (TENSORRT, "current"), (TENSORRT, "sm89")]:
        targets, device = resolve_targets(product, (asked,))
        assert targets == ("sm89",)
        assert device is not None
        assert device.target == "sm89"
    monkeypatch.setattr(
        FakeCuda, "cuDeviceGetAttribute", lambda _, out, attribute, __: setattr(out._obj, "value", 9) or 0
    )
    with pytest.raises(MissingRuntimeError, match=r"does not support this GPU \(.*, sm99\); it knows sm75"):
        resolve_targets(RTX, ("current",))


@pytest.mark.tensorrt_rtx
def test_the_list_is_the_products() -> None:
    import tensorrt_rtx

    assert {name.lower() for name in tensorrt_rtx.ComputeCapability.__members__} - {"none", "current"} == set(TARGETS)
