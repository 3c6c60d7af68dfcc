"""The pool of scenes: independent of who draws it, resumable, never half a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unblur.images.synthetic import synthetic_pair
from unblur.training.pool import Pool


def test_scene_k_is_the_pair_of_seed_plus_k_whoever_draws_it(tmp_path: Path) -> None:
    alone, together = (Pool(tmp_path / name, seed=7, scenes=3, side=32) for name in ("alone", "together"))
    alone.fill(workers=1)
    together.fill(workers=2)
    for k in range(3):
        np.testing.assert_array_equal(alone.open(k), together.open(k))
        np.testing.assert_array_equal(alone.open(k), np.stack(synthetic_pair(7 + k, 32, 32)))


def test_a_fill_goes_on_where_it_stopped_and_draws_nothing_twice(tmp_path: Path) -> None:
    pool = Pool(tmp_path, seed=0, scenes=2, side=32)
    pool.make(1)
    before = pool.path(1).stat().st_mtime_ns
    assert pool.missing() == [0]
    pool.fill(workers=0)
    assert pool.missing() == []
    assert pool.path(1).stat().st_mtime_ns == before


def test_an_interrupted_drawing_leaves_no_scene_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(tmp_path, seed=0, scenes=1, side=32)

    def half(path: Path, pair: np.ndarray) -> None:
        path.write_bytes(pair.tobytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", half)
    with pytest.raises(KeyboardInterrupt):
        pool.make(0)
    assert pool.missing() == [0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["zeroed", "one bit", "cut short", "empty", "without its sum"])
def test_a_damaged_scene_is_drawn_again(tmp_path: Path, damage: str) -> None:
    pool = Pool(tmp_path, seed=3, scenes=2, side=32)
    pool.fill(workers=0)
    expected, path = np.array(pool.open(1)), pool.path(1)
    whole = path.read_bytes()
    path.write_bytes({
        "zeroed": whole[:128] + bytes(len(whole) - 128),
        "one bit": whole[:999] + bytes([whole[999] ^ 1]) + whole[1000:],
        "cut short": whole[:-100],
        "empty": b"",
        "without its sum": whole[:-32],
    }[damage])  # fmt: skip
    assert pool.missing() == [1]
    pool.fill(workers=0)
    np.testing.assert_array_equal(pool.open(1), expected)
    assert path.read_bytes() == whole


def test_pools_of_other_seeds_sizes_and_splits_share_a_folder_without_a_mix_up(tmp_path: Path) -> None:
    pools = [Pool(tmp_path, 0, 1, 32), Pool(tmp_path, 1, 1, 32), Pool(tmp_path, 0, 1, 64),
             Pool(tmp_path, 0, 1, 32, "heldout")]  # fmt: skip
    assert len({pool.path(0) for pool in pools}) == len(pools)
