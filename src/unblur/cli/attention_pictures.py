"""What a network looks at, as a folder of pictures."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from unblur.core.artefacts import protect, write_together
from unblur.images.files import read_picture
from unblur.networks.attention import attention_maps, picture_of
from unblur.networks.checkpoints import Checkpoint

MARK = "unblur: what a network looks at"
"""In the files, so that nothing else is ever written over."""


def write_maps(checkpoint: Checkpoint, picture: Path, folder: Path) -> list[dict[str, Any]]:
    """Write every gate of the network on a picture as NAME.png, grey, of the picture's size; black is its least value
    and white its largest. Returns of each its name, path and those values.

    Raises InputError as `read_picture`, `attention_maps` and `protect`.
    """
    maps = attention_maps(checkpoint.network, read_picture(picture).frame, checkpoint.contract)
    paths = {name: folder / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.png" for name in maps}
    protect(dict.fromkeys(paths.values(), _is_ours), [picture, checkpoint.path])
    about = PngImagePlugin.PngInfo()
    about.add_text("Software", MARK)
    encoded = {}
    for name, gate in maps.items():
        data = io.BytesIO()
        Image.fromarray(picture_of(gate)[..., 0]).save(data, "PNG", pnginfo=about)
        encoded[paths[name]] = data.getvalue()
    write_together(encoded)
    return [
        {"name": name, "path": paths[name], "black": float(gate.min()), "white": float(gate.max())}
        for name, gate in maps.items()
    ]


def _is_ours(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == MARK
    except (OSError, ValueError):
        return False
