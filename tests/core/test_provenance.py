"""What a machine was at, read from files of the system: what is not there is None, not zero."""

from pathlib import Path

import pytest

from unblur.core.provenance import conditions, gpus, granted_cores, machine, switches, throttled, turbo, waited_s


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_throttling_is_summed_over_cores_and_packages(tmp_path: Path) -> None:
    assert throttled(tmp_path) is None
    put(tmp_path / "cpu0/thermal_throttle/core_throttle_count", "3\n")
    put(tmp_path / "cpu0/thermal_throttle/package_throttle_count", "4\n")
    put(tmp_path / "cpu11/thermal_throttle/core_throttle_count", "5\n")
    assert throttled(tmp_path) == 12


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("intel_pstate/no_turbo", "1", "off"),
        ("intel_pstate/no_turbo", "0", "on"),
        ("cpufreq/boost", "0", "off"),
        ("cpufreq/boost", "1", "on"),
        ("cpufreq/other", "1", ""),
    ],
)
def test_turbo(tmp_path: Path, file: str, text: str, found: str) -> None:
    put(tmp_path / file, text)
    assert turbo(tmp_path) == found


def test_waiting_for_a_core(tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    assert waited_s(file) is None
    file.write_text("some avg10=1.00 avg60=2.00 avg300=3.00 total=2500000\nfull avg10=0.00 total=7\n")
    assert waited_s(file) == 2.5
    file.write_text("nothing of the kind\n")
    assert waited_s(file) is None


def test_gpus_are_what_nvidias_tool_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    put(tool, '#!/bin/sh\necho "NVIDIA H100, 1980 MHz, 45, 310.2 W, 0x0000000000000004"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpus() == ("NVIDIA H100, 1980 MHz, 45, 310.2 W, 0x0000000000000004",)
    assert conditions().gpus == gpus()
    put(tool, "#!/bin/sh\necho no such question >&2\nexit 2\n")
    assert gpus() == ()


def test_switches_of_the_engines_libraries_are_part_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in switches().split(", ") if switches() else ():
        monkeypatch.delenv(name.partition("=")[0])
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")  # ours
    monkeypatch.setenv("HOME", "nobody's matter")
    assert "switches" not in machine()
    for place in ("CUDA_HOME", "TORCH_HOME", "PYTORCH_KERNEL_CACHE_PATH", "TORCHINDUCTOR_CACHE_DIR", "CUDA_VERSION",
                  "NVIDIA_REQUIRE_CUDA", "NVIDIA_VISIBLE_DEVICES"):  # fmt: skip
        monkeypatch.setenv(place, "/x")
    assert "switches" not in machine()
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    monkeypatch.setenv("OMP_PLACES", "C:" + r"\Users\anna\places")
    assert machine()["switches"] == "OMP_PLACES=places, TORCHDYNAMO_DISABLE=1"
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
    monkeypatch.delenv("OMP_PLACES")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("LD_PRELOAD", "/some/where/libjemalloc.so.2:/there/x.so")
    assert machine()["switches"] == "LD_PRELOAD=libjemalloc.so.2:x.so, OMP_WAIT_POLICY=passive"


@pytest.mark.parametrize(
    ("member", "files", "cores"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),  # what a container sees of itself
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000", "cpu.max": "max 100000"}, 2.0),
        ("3:memory:/x\n1:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000",
                                           "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 0.5),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("1:cpuset:/", {"cpu.max": "100000 100000"}, None),
        ("4:cpuacct,cpu:/a", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, 0.5),
        ("nothing that is known", {"cpu.max": "max 100000"}, None),
    ],
)  # fmt: skip
def test_a_containers_share_of_the_cores(
    tmp_path: Path, member: str, files: dict[str, str], cores: float | None
) -> None:
    for name, text in files.items():
        put(tmp_path / "groups" / name, text)
    put(tmp_path / "own", member + "\n")
    assert granted_cores(tmp_path / "groups", tmp_path / "own") == cores
    assert granted_cores(tmp_path / "groups", tmp_path / "none") is None
