"""VGG19 to conv3_3: what a picture contains, for BAG's content loss (Simonyan and Zisserman, ICLR 2015, table 1, E).

The weights are a file that the user names: torchvision's (vgg19-dcbb9e9d.pth), whose names and shapes these are.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.core.errors import InputError
from unblur.networks.checkpoint_file import read_content

LAYERS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
"""Number in torchvision's `features` -> channels in and out of the 3x3 convolution."""

POOLED = (5, 10)
"""Those that read a map pooled by 2x2 maxima."""

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1], red, green, blue: what these weights were trained on."""


class Content(nn.Module):
    """(B, 3, H, W) RGB in [-1, 1] -> conv3_3 before its ReLU, (B, 256, H/4, W/4). Its weights are not trained."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict({str(k): nn.Conv2d(*channels, 3, padding=1) for k, channels in LAYERS.items()})
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, picture: Tensor) -> Tensor:
        y = ((picture + 1) / 2 - self.mean) / self.spread
        for k in LAYERS:
            y = F.relu(y) if k else y
            y = F.max_pool2d(y, 2) if k in POOLED else y
            y = self.features[str(k)](y)
        return y


def read_vgg19(path: Path) -> Content:
    """Raises InputError for a file that cannot be read or does not hold the first seven convolutions of VGG19."""
    state = read_content(path).value
    content = Content()
    own = content.state_dict()
    for key, value in own.items():
        given = state.get(key) if isinstance(state, dict) else None
        if not isinstance(given, Tensor) or given.shape != value.shape or not given.is_floating_point():
            raise InputError(
                f"{path} has no {key} of {list(value.shape)}: it is not VGG19 as torchvision stores it "
                "(vgg19-dcbb9e9d.pth)."
            )
    content.load_state_dict({key: state[key] for key in own})
    return content
