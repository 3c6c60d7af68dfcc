"""Freed memory: kept for the next map, or given back, as it was asked for."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys
from pathlib import Path
import numpy as np

def faults():
    def ones():  # all alive together, as a block's maps are
        maps = [np.ones(1 << 18) for _ in range(20)]
        del maps
    ones()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    ones()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""

MEASURED = """
from unblur.calibration.statistics import measure_statistics
from unblur.images.synthetic import synthetic_pair

frames = [synthetic_pair(0, 48, 64)[0]]
measure_statistics(Path(sys.argv[1]), ["leaky_relu"], frames, histograms=True, threads=1)
print(faults())
"""

GIVEN_BACK = """
from unblur.core.heap import maps_given_back

with maps_given_back():
    meanwhile = faults()
print(meanwhile, faults())
"""

PYTORCH = """
from unblur.engines.catalogue import open_engine
from unblur.networks.checkpoints import load_checkpoint

with open_engine("torch", load_checkpoint(Path(sys.argv[1])), None, 1):
    print(faults())
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")


def _faults(program: str, *arguments: Path) -> list[int]:
    """Pages that were cleared for twenty maps of 2 MB, of 512 pages each, which are freed and wanted again."""
    command = [sys.executable, "-c", FAULTS + program, *map(str, arguments)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [int(word) for word in told.stdout.split()]


def test_freed_maps_are_given_back_only_meanwhile() -> None:
    meanwhile, afterwards = _faults(GIVEN_BACK)
    assert meanwhile >= 20 * 512
    assert afterwards < 512


def test_calibration_leaves_its_process_as_fast_as_any(fixed_graph: Path) -> None:
    assert _faults(MEASURED, fixed_graph)[0] < 512


def test_pytorch_finds_its_maps_where_it_left_them(tiny_path: Path) -> None:
    assert _faults(PYTORCH, tiny_path)[0] < 512
