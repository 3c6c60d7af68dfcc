"""When memory runs out: a sentence, never another frame's result, and the next frame is right again."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pixels import BGR

from unblur.core.errors import InputError
from unblur.engines.base import BaseRunner
from unblur.images.signature import Signature
from unblur.networks.checkpoints import Checkpoint

STARVE = """
import resource, sys
from pathlib import Path
import numpy as np
from unblur.core.errors import InputError
from unblur.engines.catalogue import open_engine
from unblur.networks.checkpoints import load_checkpoint

engine, checkpoint, graph = sys.argv[1:]
runner = open_engine(engine, load_checkpoint(Path(checkpoint)), None if engine == "torch" else Path(graph), 1)
draw = np.random.default_rng(0)
small, other, large = ((draw.random((1, 3, side, side), np.float32) - 0.5) for side in (64, 64, 1024))
expected = runner.run(small)
runner.run(other)
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 4 * 2**20, resource.RLIM_INFINITY))
told = []
for tensor in (large, small):
    try:
        told.append("right" if np.array_equal(runner.run(tensor), expected) else "wrong")
    except InputError as error:
        told.append(str(error))
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
told.append("right" if np.array_equal(runner.run(small), expected) else "wrong")
print(*told, sep="\\n")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_a_frame_that_does_not_fit_and_the_frames_after_it(tiny_path: Path, dynamic_graph: Path, engine: str) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    command = [sys.executable, "-c", STARVE, engine, str(tiny_path), str(dynamic_graph)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    large, small, after = done.stdout.splitlines()
    assert f"Memory does not hold a frame of 1024x1024 in {engine}" in large
    assert small == "right" or "Memory does not hold a frame of 64x64" in small
    assert after == "right"


class Failing(BaseRunner):
    def __init__(self, error: Exception) -> None:
        super().__init__(Signature(BGR), {"backend": "mine"})
        self.error = error

    def _run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        raise self.error

    def _release(self) -> None:
        pass


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_is_named_in_every_backends_words(error: Exception) -> None:
    with pytest.raises(InputError, match="does not hold a frame of 4x6 in mine; free some"):
        Failing(error).run(np.zeros((1, 3, 4, 6), np.float32))


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes disagree"):
        Failing(RuntimeError("shapes disagree")).run(np.zeros((1, 3, 4, 6), np.float32))


def test_memory_is_named_while_openvino_compiles(
    tiny: Checkpoint, dynamic_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    from unblur.engines.catalogue import open_engine

    def starved(*_: object) -> Callable[..., None]:
        raise RuntimeError("Check 'ptr' failed at cpu_memory.cpp:257:\nFailed to allocate 31457280 bytes of memory\n")

    monkeypatch.setattr(openvino.Core, "compile_model", starved)
    with pytest.raises(InputError, match=r"Memory does not hold .* in OpenVINO") as caught:
        open_engine("openvino", tiny, dynamic_graph, 1)
    assert "export" not in str(caught.value)
