"""The pool of scenes: independent of who draws it, resumable, never half a file."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from unblur.core.errors import InputError
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

    def half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        pool.make(0)
    assert pool.missing() == [0]
    assert list(tmp_path.iterdir()) == []


def damage(data: bytes, dice: random.Random) -> bytes:
    """Zeros, a cut, a flipped bit, nothing, or something else altogether."""
    place = dice.randrange(len(data))
    return dice.choice(
        [
            bytes(len(data)),
            data[:place],
            data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :],
            data[:place] + bytes(1000) + data[place + 1000 :],
            b"",
            dice.randbytes(300),
        ]
    )


def test_a_damaged_scene_is_drawn_again(tmp_path: Path) -> None:
    pool, dice = Pool(tmp_path, seed=0, scenes=1, side=32), random.Random(4)
    pool.make(0)
    expected, whole = pool.open(0), pool.path(0).read_bytes()
    for k in range(60):
        pool.path(0).write_bytes(damage(whole, dice))
        np.testing.assert_array_equal(pool.open(0), expected, err_msg=str(k))
    pool.path(0).unlink()
    np.testing.assert_array_equal(pool.open(0), expected)


@pytest.mark.parametrize("pair", [np.zeros((2, 32, 32, 3)), np.zeros((2, 16, 16, 3), np.uint8), np.array([{}])])
def test_a_file_with_something_else_in_it_is_no_scene(tmp_path: Path, pair: np.ndarray) -> None:
    pool = Pool(tmp_path, seed=0, scenes=1, side=32)
    np.savez(pool.path(0), pair=pair)
    np.testing.assert_array_equal(pool.open(0), np.stack(synthetic_pair(0, 32, 32)))


def test_a_disk_that_spoils_what_is_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, genuine = Pool(tmp_path, seed=0, scenes=1, side=32), Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: genuine(path, bytes(len(data))))
    with pytest.raises(InputError, match="check the disk"):
        pool.open(0)


def test_pools_of_other_seeds_sizes_and_splits_share_a_folder_without_a_mix_up(tmp_path: Path) -> None:
    pools = [Pool(tmp_path, 0, 1, 32), Pool(tmp_path, 1, 1, 32), Pool(tmp_path, 0, 1, 64),
             Pool(tmp_path, 0, 1, 32, "heldout")]  # fmt: skip
    assert len({pool.path(0) for pool in pools}) == len(pools)
