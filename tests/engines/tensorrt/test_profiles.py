"""Profiles: read, derived from sizes, chosen for a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pixels import BGR

from unblur.core.errors import InputError
from unblur.engines.tensorrt.profiles import (
    EXACT,
    Profile,
    check_profiles,
    choose_profile,
    derive_profiles,
    parse_profile,
    profiles_from_json,
    profiles_to_json,
)

SMALL_TO_HD = Profile((64, 64), (256, 256), (720, 1280))


def test_words() -> None:
    assert parse_profile("64x64:256x256:720x1280") == SMALL_TO_HD
    assert parse_profile("720x1280") == Profile((720, 1280), (720, 1280), (720, 1280))
    for text in ("64x64:256x256:720x1280", "720x1280"):
        assert parse_profile(text).to_text() == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("720", "no range of sizes"),
        ("720x1280x3", "no range of sizes"),
        ("64x64:720x1280", "no range of sizes"),
        ("64x64:256x256:720x1280:4x4", "no range of sizes"),
        ("-2x64", "no range of sizes"),
        ("9" * 5000 + "x64", "no range of sizes"),
        ("128x64:64x64:64x64", "heights 128, 64, 64 are not in ascending order"),
        ("64x64:64x256:64x128", "widths 64, 256, 128 are not in ascending order"),
    ],
)
def test_words_that_are_no_profile(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_profile(text)


def test_sizes_that_no_graph_takes() -> None:
    check_profiles([SMALL_TO_HD], BGR)
    with pytest.raises(InputError, match=r"720x1279 is none; write 720x1280"):
        check_profiles([SMALL_TO_HD, Profile.only((720, 1279))], BGR)
    with pytest.raises(InputError, match=r"14x64 is too small; .* 16x16"):
        check_profiles([Profile((14, 64), (64, 64), (64, 64))], BGR, smallest=16)
    check_profiles([Profile((14, 64), (64, 64), (64, 64))], BGR, smallest=14)


def test_few_sizes_each_get_a_profile() -> None:
    assert derive_profiles({(720, 1280): 5, (48, 64): 1}) == (Profile.only((48, 64)), Profile.only((720, 1280)))


def test_many_sizes_are_grouped_by_orientation_and_pixels() -> None:
    found = {(100, 100): 1, (100, 200): 7, (200, 200): 2, (202, 200): 1, (800, 600): 3, (600, 800): 3, (1000, 1200): 3}
    assert derive_profiles(found) == (
        Profile((100, 100), (100, 200), (200, 200)),  # 40000 pixels are just four times 10000
        Profile((600, 800), (1000, 1200), (1000, 1200)),  # equally common: the largest
        Profile((202, 200), (202, 200), (202, 200)),
        Profile((800, 600), (800, 600), (800, 600)),
    )
    with pytest.raises(InputError, match="No sizes"):
        derive_profiles({})


sizes = st.tuples(st.integers(8, 2000), st.integers(8, 2000)).map(lambda s: (2 * s[0], 2 * s[1]))


@given(st.dictionaries(sizes, st.integers(1, 9), min_size=1, max_size=30))
def test_every_size_found_fits_the_profiles_derived_from_it(counts: dict[tuple[int, int], int]) -> None:
    profiles = derive_profiles(counts)
    assert profiles_from_json(profiles_to_json(profiles)) == profiles
    for height, width in counts:
        chosen = profiles[choose_profile(profiles, height, width)]
        assert chosen.least[0] <= height <= chosen.most[0]
        assert chosen.least[1] <= width <= chosen.most[1]
    for profile in profiles:
        assert profile.best in counts
        assert all(
            low <= best <= high for low, best, high in zip(profile.least, profile.best, profile.most, strict=True)
        )
        assert len(counts) > EXACT or profile.is_fixed


def test_the_tightest_profile_or_the_one_made_for_a_size_is_chosen() -> None:
    wide = Profile((16, 16), (256, 256), (4000, 4000))
    assert choose_profile([wide, SMALL_TO_HD], 100, 100) == 1
    assert choose_profile([SMALL_TO_HD, Profile.only((100, 100)), wide], 100, 100) == 1
    assert choose_profile([SMALL_TO_HD, Profile((100, 100), (2000, 2000), (4000, 4000))], 2000, 2000) == 1
    assert choose_profile([SMALL_TO_HD, Profile((64, 64), (720, 1280), (4000, 4000))], 720, 1280) == 1


def test_a_size_outside_every_profile_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no frame of 800x1400 .*nearest that fits is 720x1280.*--shapes 800x1400"):
        choose_profile([SMALL_TO_HD, Profile.only((2000, 3000))], 800, 1400)
    with pytest.raises(InputError, match=r"nearest that fits is 64x500"):
        choose_profile([SMALL_TO_HD], 32, 500)
