"""Fake driver libraries, for what unblur asks of them before any TensorRT object is made."""

from __future__ import annotations

from typing import Any


class FakeCuda:
    """libcuda with one or more RTX 4090; every function of the driver API writes through its pointers."""

    def __init__(self, version: int = 13000, devices: int = 1, init: int = 0, broken: str = "") -> None:
        self.version, self.devices, self.init, self.broken = version, devices, init, broken

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.init

    def cuDriverGetVersion(self, out: Any) -> int:  # noqa: N802
        out._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, out: Any) -> int:  # noqa: N802
        out._obj.value = self.devices
        return 999 if self.broken == "count" else 0

    def cuDeviceGet(self, out: Any, k: int) -> int:  # noqa: N802
        out._obj.value = 40 + k
        return 0

    def cuDeviceGetName(self, buffer: Any, size: int, device: int) -> int:  # noqa: N802
        buffer.value = f"NVIDIA GeForce RTX 4090 #{device}".encode()
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: int) -> int:  # noqa: N802
        out._obj.value = 24 * 2**30
        return 0

    def cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> int:  # noqa: N802
        out._obj.value = {75: 8, 76: 9}[attribute]
        return 0


class FakeNvml:
    """libnvidia-ml of a driver; `opened`: how often."""

    def __init__(self, version: str) -> None:
        self.version, self.opened, self.open = version, 0, False

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.opened, self.open = self.opened + 1, True
        return 0

    def nvmlSystemGetDriverVersion(self, out: Any, size: int) -> int:  # noqa: N802
        assert self.open
        out.value = self.version.encode()[: size - 1]
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open = False
        return 0
