"""`unblur collect`, `python calibration/collect_frames.py`: choose calibration frames, write a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of, positive
from unblur.cli.output import Output
from unblur.cli.sizes import SIZE_TEXT, size
from unblur.core.artefacts import protect, text_with


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Write one manifest and print what is in it."""
    parser = Arguments(
        "unblur collect",
        "Choose calibration frames that differ, and pin them in a manifest.",
        "unblur collect blurred/ --count 16 --crop 256x256 --output frames.toml",
        "unblur collect gopro:GoPro synthetic:7 --not-in test/ --output frames.toml",
    )
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="folder of pictures, gopro:FOLDER, hide:FOLDER, realblur:FOLDER, synthetic:SEED",
    )
    parser.add_argument("--count", type=positive, default=16, help="frames to choose")
    parser.add_argument(
        "--crop", type=size, default=(256, 256), metavar="HxW", help=f"the part of each picture: {SIZE_TEXT}"
    )
    parser.add_argument(
        "--not-in",
        type=Path,
        nargs="+",
        default=[],
        metavar="PLACE",
        help="folders or manifests of evaluation; a picture that is also there is refused",
    )
    parser.add_argument("--allow-overlap", action="store_true", help="keep such pictures; every report will tell")
    parser.add_argument("--output", type=Path, required=True, help="the .toml file to write")
    arguments = parser.parse_args(argv)

    from unblur.calibration.collect import MARK, collect

    protect({arguments.output: text_with(MARK)}, inputs_of(arguments, "output"))
    out = Output(arguments)
    entries, overlaps = collect(
        arguments.sources,
        arguments.count,
        arguments.crop,
        arguments.output,
        not_in=arguments.not_in,
        allow_overlap=arguments.allow_overlap,
        progress=out.progress,
    )
    bright, sharp = ([getattr(entry, name) for entry in entries] for name in ("brightness", "sharpness"))
    height, width = arguments.crop
    out.say(
        f"{arguments.output}: {len(entries)} frames of {height}x{width} from "
        f"{len({entry.scene for entry in entries})} scene(s), brightness {min(bright):.2f} to {max(bright):.2f}, "
        f"sharpness {min(sharp):.3f} to {max(sharp):.3f}"
    )
    for text in overlaps:
        out.say(f"also in the evaluation set: {text}")
    out.figures({"manifest": arguments.output, "frames": [entry.model_dump(mode="json") for entry in entries],
                 "overlaps": overlaps})  # fmt: skip
    return 0
