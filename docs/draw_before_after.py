"""Draw the README's picture: held-out scenes, blurred, and as the bundled network restores them.

The scenes hold no photograph, and the network gains about as much on them as on all held-out ones (its card:
checkpoints/banet-nano.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unblur.engines.catalogue import REFERENCE, open_engine
from unblur.engines.runner import restore_frame
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import load_checkpoint

ROOT = Path(__file__).parents[1]
SEEDS, HEIGHT, WIDTH = (4, 73), 256, 384
GAP, BAND = 4, 24
"""Pixels between the two pictures and of the line of text under them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the picture and print its decibels."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "before-after.jpg")
    output: Path = parser.parse_args(argv).output
    checkpoint = load_checkpoint(ROOT / "checkpoints" / "banet-nano.safetensors")
    sheet = Image.new("RGB", (2 * WIDTH + GAP, len(SEEDS) * (HEIGHT + BAND)), "#1b1d20")
    draw = ImageDraw.Draw(sheet)
    with open_engine(REFERENCE, checkpoint, None, 1) as runner:
        for row, seed in enumerate(SEEDS):
            blurred, sharp = synthetic_pair(seed, HEIGHT, WIDTH, "heldout")
            pictures = (("blurred", blurred), (f"restored by {checkpoint.name}", restore_frame(runner, blurred)))
            for column, (name, frame) in enumerate(pictures):
                left, top = column * (WIDTH + GAP), row * (HEIGHT + BAND)
                sheet.paste(Image.fromarray(np.ascontiguousarray(frame)), (left, top))
                text = f"{name}, {psnr_db(frame, sharp, peak=255):.2f} dB"
                draw.text((left + 8, top + HEIGHT + 4), text, fill="#eceded", font=ImageFont.load_default(14))
                print(text)
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output, "JPEG", quality=92, subsampling=0)
    print(output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
