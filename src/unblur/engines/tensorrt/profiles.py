"""Optimisation profiles: the ranges of sizes that an engine of a dynamic graph is compiled for.

Sizes are (height, width) of the padded frame, in pixels. Everything here is a function of sizes; no TensorRT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unblur.core.bounds import Size
from unblur.core.errors import InputError
from unblur.images.contract import PixelContract

EXACT = 4
"""Up to so many different sizes each get a profile of their own."""

SPREAD = 4
"""The largest frame of a derived profile has at most so many times the pixels of its smallest."""


@dataclass(frozen=True)
class Profile:
    """Sizes from `least` to `most`; the kernels are chosen for `best`."""

    least: Size
    best: Size
    most: Size

    @classmethod
    def only(cls, size: Size) -> Profile:
        """The profile of one size."""
        return cls(size, size, size)

    @property
    def is_fixed(self) -> bool:
        return self.least == self.most

    def nearest(self, height: int, width: int) -> Size:
        """The size of this profile that is nearest to the given one."""
        return (
            min(max(height, self.least[0]), self.most[0]),
            min(max(width, self.least[1]), self.most[1]),
        )

    def to_text(self) -> str:
        """As `parse_profile` reads it: "64x64:256x256:720x1280", or "720x1280"."""
        sizes = (self.least,) if self.is_fixed else (self.least, self.best, self.most)
        return ":".join(f"{height}x{width}" for height, width in sizes)


def parse_profile(text: str) -> Profile:
    """ "64x64:256x256:720x1280" is smallest, best and largest; "720x1280" is all three.

    Raises InputError for another form, and where a height or width is not in ascending order.
    """
    found = [re.fullmatch(r"(\d{1,5})x(\d{1,5})", word) for word in text.strip().split(":")]
    sizes = [(int(match[1]), int(match[2])) for match in found if match]
    if len(sizes) != len(found) or len(sizes) not in (1, 3):
        raise InputError(
            f"{text!r} is no range of sizes; write MIN:OPT:MAX as HEIGHTxWIDTH each, such as 64x64:256x256:720x1280, "
            "or one size."
        )
    profile = Profile(sizes[0], sizes[-2 if len(sizes) == 3 else 0], sizes[-1])
    for axis, name in enumerate(("height", "width")):
        low, middle, high = profile.least[axis], profile.best[axis], profile.most[axis]
        if not low <= middle <= high:
            raise InputError(
                f"{text}: its {name}s {low}, {middle}, {high} are not in ascending order; write the smallest size "
                "first, then the commonest, then the largest."
            )
    return profile


def check_profiles(profiles: Sequence[Profile], contract: PixelContract, smallest: int = 1) -> None:
    """Raise InputError for a size that the graph does not take: a side shorter than `smallest`, or no multiple of the
    contract's padding."""
    for profile in profiles:
        for height, width in dict.fromkeys((profile.least, profile.best, profile.most)):
            if min(height, width) < smallest:
                raise InputError(
                    f"{profile.to_text()}: {height}x{width} is too small; the graph takes {smallest}x{smallest} and "
                    "more."
                )
            padded = contract.padded_size(height, width)
            if padded != (height, width):
                raise InputError(
                    f"{profile.to_text()}: the network takes multiples of {contract.multiple}, and {height}x{width} is "
                    f"none; write {padded[0]}x{padded[1]}, to which such frames are padded."
                )


def derive_profiles(counts: Mapping[Size, int]) -> tuple[Profile, ...]:
    """Profiles for sizes that were found, each with how often.

    Up to EXACT sizes: one profile each, whose kernels are made for that very size. More: landscape (and square) apart
    from portrait, each in order of pixels, and a new profile wherever a frame has more than SPREAD times the pixels
    of the smallest in the profile; its best size is the commonest in it, of equals the largest. A profile takes all
    sizes between its smallest height and width and its largest. Raises InputError for no size at all.
    """
    if not counts:
        raise InputError("No sizes were found to derive profiles from; name a folder with pictures.")
    if len(counts) <= EXACT:
        return tuple(Profile.only(size) for size in sorted(counts, key=_pixels))
    groups: list[list[Size]] = []
    for portrait in (False, True):
        start = 0
        for size in sorted((s for s in counts if (s[0] > s[1]) == portrait), key=_pixels):
            if not start or _pixels(size)[0] > SPREAD * start:
                groups.append([])
                start = _pixels(size)[0]
            groups[-1].append(size)
    return tuple(_hull(group, counts) for group in groups)


def choose_profile(profiles: Sequence[Profile], height: int, width: int) -> int:
    """Index of the profile to run a frame of this size with: made for it if there is one, else the tightest.

    Raises InputError for a size outside every profile, naming the nearest that fits.
    """
    fitting = [k for k, profile in enumerate(profiles) if profile.nearest(height, width) == (height, width)]
    if not fitting:
        near = min(
            (profile.nearest(height, width) for profile in profiles),
            key=lambda size: (abs(size[0] - height) + abs(size[1] - width), size),
        )
        known = ", ".join(profile.to_text() for profile in profiles)
        raise InputError(
            f"The engine takes no frame of {height}x{width} (it was built for {known}); the nearest that fits is "
            f"{near[0]}x{near[1]}. Build it again with --shapes {height}x{width} among them."
        )
    return min(fitting, key=lambda k: (profiles[k].best != (height, width), _pixels(profiles[k].most), k))


def profiles_to_json(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    """For a manifest: the three sizes of each profile, [height, width]."""
    return [{"min": list(p.least), "opt": list(p.best), "max": list(p.most)} for p in profiles]


def profiles_from_json(values: Any) -> tuple[Profile, ...]:
    """The inverse of `profiles_to_json`. Raises ValueError, TypeError or KeyError for anything else."""
    profiles = []
    for value in values:
        (a, b), (c, d), (e, f) = (value[name] for name in ("min", "opt", "max"))
        profiles.append(Profile((int(a), int(b)), (int(c), int(d)), (int(e), int(f))))
    return tuple(profiles)


def _hull(group: Sequence[Size], counts: Mapping[Size, int]) -> Profile:
    heights, widths = zip(*group, strict=True)
    best = max(group, key=lambda size: (counts[size], _pixels(size)))
    return Profile((min(heights), min(widths)), best, (max(heights), max(widths)))


def _pixels(size: Size) -> tuple[int, Size]:
    return size[0] * size[1], size
