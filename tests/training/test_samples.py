"""Samples by number: the same pixels on any worker, every pair once an epoch, all eight symmetries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from unblur.core.errors import InputError
from unblur.images.pairs import Pair
from unblur.networks.banet.family import BANET
from unblur.training.samples import FolderSource, Samples


class Ramp:
    """Pairs in which every pixel tells its place: R is the row, G the column, B the pair; sharp is one brighter."""

    def __init__(self, count: int = 5, side: int = 24) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def read(self, k: int) -> NDArray[np.uint8]:
        y, x = np.mgrid[0 : self.side, 0 : self.side]
        blurred = np.stack([y, x, np.full_like(y, k)], axis=-1)
        return np.stack([blurred, blurred + 1]).astype(np.uint8)


def samples(seed: int = 3, crop: int = 8, source: Ramp | None = None) -> Samples:
    return Samples(source or Ramp(), crop, seed, BANET.contract)


def bgr_bytes(tensor: torch.Tensor) -> NDArray[np.int64]:
    return np.round((tensor.numpy() + 0.5) * 255).astype(np.int64)


def test_blurred_and_sharp_are_cut_and_turned_alike_and_are_bgr_around_zero() -> None:
    for n in range(20):
        blurred, sharp = samples()[n]
        assert blurred.shape == sharp.shape == (3, 8, 8)
        np.testing.assert_array_equal(bgr_bytes(sharp) - bgr_bytes(blurred), 1)
        assert len(np.unique(bgr_bytes(blurred)[0])) == 1  # blue, the number of the pair, comes first


def test_every_pair_is_seen_once_before_any_is_seen_twice() -> None:
    seen = [int(bgr_bytes(samples()[n][0])[0, 0, 0]) for n in range(10)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]
    assert seen[:5] != seen[5:]


def test_all_eight_symmetries_of_the_square_occur() -> None:
    forms = set()
    for n in range(100):
        _, g, r = bgr_bytes(samples()[n][0])
        forms.add((int(np.sign(r[1, 0] - r[0, 0])), int(np.sign(r[0, 1] - r[0, 0])),
                   int(np.sign(g[1, 0] - g[0, 0])), int(np.sign(g[0, 1] - g[0, 0]))))  # fmt: skip
    assert len(forms) == 8


def load_with_workers() -> None:
    """What the test below does, in a process of its own: workers are forked, and a pytest worker holds the threads,
    handlers and pipes of every test before."""
    here = [samples()[n] for n in range(6)]
    for workers in (0, 2):
        loader = DataLoader(samples(), batch_size=2, sampler=range(6), num_workers=workers)
        blurred = torch.cat([batch[0] for batch in loader])
        assert torch.equal(blurred, torch.stack([item[0] for item in here]))
    sys.stdout.write("the same pixels\n")


def test_workers_change_no_pixel() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['load_with_workers']()"
    done = subprocess.run([sys.executable, "-c", code, __file__], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "the same pixels\n"), done.stderr


def test_seeds_differ_and_a_picture_smaller_than_the_crop_is_named() -> None:
    assert not torch.equal(samples(seed=3)[0][0], samples(seed=4)[0][0])
    with pytest.raises(InputError, match="is 24x24, smaller than the crop of 26; lower crop_px"):
        samples(crop=26)[0]


def test_pairs_that_no_training_can_take_are_refused_before_it_begins(tmp_path: Path) -> None:
    pictures = {
        "plain": Image.new("RGB", (17, 12)),
        "small": Image.new("RGB", (17, 11)),
        "deep": Image.fromarray(np.full((12, 17), 40_000, np.uint16)),
    }
    for name, image in pictures.items():
        image.save(tmp_path / f"{name}.png")
    Image.new("CMYK", (17, 12)).save(tmp_path / "ink.jpg")

    def pair(blurred: str, sharp: str) -> Pair:
        return Pair(tmp_path / blurred, tmp_path / sharp)

    good = pair("plain.png", "plain.png")
    assert FolderSource([good]).read(0).shape == (2, 12, 17, 3)
    for bad, words in ((pair("plain.png", "deep.png"), "16-bit"), (pair("ink.jpg", "plain.png"), "CMYK"),
                       (pair("plain.png", "small.png"), "not a pair")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            FolderSource([good, bad])
