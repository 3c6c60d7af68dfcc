"""Which TensorRT is picked, and what the driver says, against a fake libcuda."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fake_libcuda import FakeCuda, FakeNvml

from unblur.core.errors import MissingRuntimeError
from unblur.engines.tensorrt import product
from unblur.engines.tensorrt.product import Device, Driver, Product, driver_version, open_product, probe_driver

LIBRARY_MISSING = "libnvonnxparser.so.11: cannot open shared object file"


def install(monkeypatch: pytest.MonkeyPatch, **found: str | Exception) -> None:
    """Modules by name: a version, or what importing them raises."""

    def import_module(name: str, package: str | None = None) -> Any:
        result = found.get(name, ModuleNotFoundError(f"No module named {name!r}"))
        if isinstance(result, Exception):
            raise result
        return SimpleNamespace(__name__=name, __version__=result)

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_auto_takes_the_data_centre_product_where_it_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tensorrt="11.4.0.106", tensorrt_rtx="1.7.1.116")
    assert (open_product().name, open_product().version) == ("tensorrt", "11.4.0.106")
    assert open_product("tensorrt-rtx").module.__name__ == "tensorrt_rtx"


@pytest.mark.parametrize("error", [ImportError(LIBRARY_MISSING), OSError(LIBRARY_MISSING)])
def test_bindings_without_libraries_count_as_not_installed(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    install(monkeypatch, tensorrt=error, tensorrt_rtx="1.7.1.116")
    assert open_product("auto").name == "tensorrt-rtx"
    with pytest.raises(MissingRuntimeError, match=r"libnvonnxparser.*pip install tensorrt"):
        open_product("tensorrt")


def test_neither_and_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(MissingRuntimeError, match=r'pip install -e "\.\[tensorrt\]"'):
        open_product("auto")
    install(monkeypatch, tensorrt="10.3.0", tensorrt_rtx="1.7.1.116")
    with pytest.raises(MissingRuntimeError, match=r"TensorRT 10.3.0 is installed.*10.16"):
        open_product("auto")


@pytest.fixture
def fresh() -> Iterator[None]:
    """The driver's version is asked once in a process: here once in a test."""
    product._driver_version.cache_clear()
    yield
    product._driver_version.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_the_driver_tells_its_version_and_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml("580.65.06")
    monkeypatch.setattr(product, "load_libcuda", lambda: FakeCuda(12080, devices=2))
    monkeypatch.setattr(product, "load_libnvml", lambda: nvml)
    first, second = (Device(f"NVIDIA GeForce RTX 4090 #{k}", "sm89", 24 * 2**30) for k in (40, 41))
    assert probe_driver() == probe_driver() == Driver(12080, (first, second), "580.65.06")
    assert driver_version() == "580.65.06"
    assert (nvml.opened, nvml.open) == (1, False), "opening it takes seconds where nothing holds the GPUs ready"


@pytest.mark.usefixtures("fresh")
def test_without_the_management_library_the_driver_is_called_by_its_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(product, "load_libcuda", lambda: FakeCuda(12080))
    monkeypatch.setattr(product, "load_libnvml", absent)
    assert probe_driver().version == ""
    assert driver_version() == "cuda 12.8"


@pytest.mark.parametrize(
    ("cuda", "words"),
    [
        (FakeCuda(11080), r"too old: it speaks CUDA 11\.8, tensorrt 11\.4\.0\.106 needs 12\.0"),
        (FakeCuda(devices=0), "finds no GPU"),
        (FakeCuda(init=100), "finds no GPU"),
        (FakeCuda(init=803), "does not start .*803"),
        (FakeCuda(broken="count"), "cuDeviceGetCount gives error 999"),
    ],
)
def test_a_driver_that_cannot_work_is_told_with_the_cure(
    cuda: FakeCuda, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "load_libcuda", lambda: cuda)
    with pytest.raises(MissingRuntimeError, match=words):
        probe_driver(Product("tensorrt", None, "11.4.0.106"))


@pytest.mark.tensorrt_rtx
def test_the_package_tells_which_cuda_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed wheel is for CUDA 13; a driver of CUDA 12.8 cannot load it."""
    monkeypatch.setattr(product, "load_libcuda", lambda: FakeCuda(12080))
    with pytest.raises(MissingRuntimeError, match=r"speaks CUDA 12\.8, tensorrt-rtx .* needs 13\.0"):
        probe_driver(open_product("tensorrt-rtx"))


def test_no_driver_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(product, "load_libcuda", absent)
    with pytest.raises(MissingRuntimeError, match=r"No NVIDIA driver is installed .*--flavor tensorrt-rtx"):
        probe_driver()
