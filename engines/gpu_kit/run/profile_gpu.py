"""Where the time goes at one size: every convolution shape of the network alone, then the kernels of a whole frame.

    profile_gpu.py OUT.json --network banet --size 720x1280 [--budget 100] [--device cpu]

`conv`: FP16, channels last, cuDNN's search, inputs that take turns through more memory than the L2: milliseconds,
TFLOP/s, GB/s, share of the frame. `kernels`: torch.profiler over three frames of the network and of its exact form.
"""

from __future__ import annotations

import argparse
import collections
import copy
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.networks.checkpoints import Checkpoint
from unblur.networks.random_weights import random_checkpoint

Shape = tuple[bool, int, int, tuple[int, int], int, Any, int, tuple[int, int]]
"""Transposed, channels in and out, kernel, stride, padding, dilation, map."""

FOR_THE_REST_S = 45.0
"""Convolutions stop where less is left: the whole frame is still to come."""


class Profile:
    """The answers so far, on the disk after each of them."""

    def __init__(self, output: Path, device: str, budget_s: float) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.dtype = torch.float16 if self.cuda else torch.float32
        self.answers: dict[str, Any] = {"conv": [], "kernels": {}}
        self._output, self._end = output, time.perf_counter() + budget_s

    @property
    def left_s(self) -> float:
        return self._end - time.perf_counter()

    def note(self, key: str, value: Any) -> None:
        """Keep an answer: in a list, under a name of the kernels, or by itself."""
        if isinstance(self.answers.get(key), list):
            self.answers[key].append(value)
        elif isinstance(self.answers.get(key), dict):
            self.answers[key] |= value
        else:
            self.answers[key] = value
        self._output.write_text(json.dumps(self.answers, indent=1) + "\n")

    def maps(self, channels: int, height: int, width: int) -> list[Tensor]:
        """So many that no cache holds them all."""
        count = max(2, min(6, int(200e6 // (channels * height * width * 2)) + 1))
        shape = (1, channels, height, width)
        last = torch.channels_last
        return [
            torch.randn(shape, device=self.device).to(self.dtype).contiguous(memory_format=last) for _ in range(count)
        ]

    def milliseconds(self, call: Callable[[Tensor], Any], inputs: Sequence[Tensor], count: int = 20) -> float:
        """Median of `call`, the inputs in turn."""
        for k in range(4 if self.cuda else 1):
            call(inputs[k % len(inputs)])
        times = []
        for k in range(count if self.cuda else 2):
            if self.cuda:
                before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                before.record()
                call(inputs[k % len(inputs)])
                after.record()
                after.synchronize()
                times.append(before.elapsed_time(after))
            else:
                started = time.perf_counter()
                call(inputs[k % len(inputs)])
                times.append(1e3 * (time.perf_counter() - started))
        return sorted(times)[len(times) // 2]


def shapes_of(network: nn.Module, height: int, width: int) -> collections.Counter[Shape]:
    """Every convolution that a frame meets, by shape, on device "meta"."""
    shapes: collections.Counter[Shape] = collections.Counter()

    def see(module: Any, given: tuple[Tensor, ...], _: Tensor) -> None:
        transposed = isinstance(module, nn.ConvTranspose2d)
        x = given[0]
        shapes[
            transposed, module.in_channels, module.out_channels, module.kernel_size, module.stride[0], module.padding,
            module.dilation[0], (x.shape[2], x.shape[3]),
        ] += 1  # fmt: skip

    meta = copy.deepcopy(network).to("meta")
    for module in meta.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(see)
    meta(torch.empty(1, 3, height, width, device="meta"))
    return shapes


def profile_convolution(profile: Profile, shape: Shape, count: int) -> dict[str, Any]:
    """One shape alone; on a GPU also without its bias, which tells what the bias costs."""
    transposed, cin, cout, kernel, stride, padding, dilation, (height, width) = shape
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv: Any = kind(cin, cout, kernel, stride=stride, padding=padding, dilation=dilation)
    conv = conv.to(profile.device, profile.dtype).to(memory_format=torch.channels_last).requires_grad_(False)
    x = profile.maps(cin, height, width)
    y = conv(x[0])
    macs = (x[0].numel() * cout if transposed else y.numel() * cin) * kernel[0] * kernel[1]
    ms = profile.milliseconds(conv, x)
    row: dict[str, Any] = {
        "transposed": transposed, "in": cin, "out": cout, "kernel": list(kernel), "stride": stride,
        "dilation": dilation, "map": [height, width], "count": count, "ms": ms, "TFLOP_s": 2 * macs / ms / 1e9,
        "GB_s": 2 * (x[0].numel() + y.numel() + conv.weight.numel()) / ms / 1e6, "frame_ms": ms * count, "macs": macs,
    }  # fmt: skip
    if profile.cuda and not transposed and macs > 1e9:
        bare = lambda v: F.conv2d(v, conv.weight, None, stride, padding, dilation)  # noqa: E731
        row["without_bias_ms"] = profile.milliseconds(bare, x)
    return row


def profile_convolutions(profile: Profile, network: nn.Module, height: int, width: int) -> None:
    """All shapes, the dearest first, and their sum."""
    shapes = shapes_of(network, height, width)
    cost = lambda s: s[1] * s[2] * s[3][0] * s[3][1] * s[7][0] * s[7][1]  # noqa: E731
    rows = []
    for shape, count in sorted(shapes.items(), key=lambda item: -cost(item[0]) * item[1]):
        if profile.left_s < FOR_THE_REST_S:
            profile.note("conv", {"skipped": "no time"})
            break
        try:
            row = profile_convolution(profile, shape, count)
        except Exception as error:
            profile.note("conv", {"shape": str(shape), "error": f"{type(error).__name__}: {error}"[:300]})
            continue
        rows.append(row)
        profile.note("conv", row)
        print(f"{row['in']:4d}->{row['out']:4d} {row['kernel']} d{row['dilation']} {row['map']} x{count}: "
              f"{row['ms']:.3f} ms, {row['TFLOP_s']:.0f} TFLOP/s, {row['GB_s']:.0f} GB/s", flush=True)  # fmt: skip
    total_ms, macs = (sum(row[key] * scale(row) for row in rows) for key, scale in
                      (("frame_ms", lambda _: 1), ("macs", lambda row: row["count"])))  # fmt: skip
    rate = 2 * macs / total_ms / 1e9 if total_ms else None
    profile.note("conv_total", {"frame_ms": total_ms, "TMAC": macs / 1e12, "TFLOP_s": rate})


def profile_frame(profile: Profile, label: str, network: Callable[[Tensor], Any], x: Tensor) -> None:
    """The kernels of one frame, those that take longest first."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    def frames() -> None:
        for _ in range(3):
            network(x)
        if profile.cuda:
            torch.cuda.synchronize()

    frames()
    with profiler(activities=[ProfilerActivity.CUDA if profile.cuda else ProfilerActivity.CPU]) as traced:
        frames()
    rows = [
        (event.key, event.count / 3,
         (event.self_device_time_total if profile.cuda else event.self_cpu_time_total) / 3e3)
        for event in traced.key_averages()
    ]  # fmt: skip
    rows = sorted((row for row in rows if row[2] > 0), key=lambda row: -row[2])
    top = [{"kernel": name[:220], "count": count, "ms": ms} for name, count, ms in rows[:45]]
    facts = {"sum_ms": sum(row[2] for row in rows), "launches": sum(row[1] for row in rows), "top": top}
    profile.note("kernels", {label: facts})
    print(f"{label}: {facts['sum_ms']:.2f} ms in {facts['launches']:.0f} launches", flush=True)


def whole_frames(profile: Profile, checkpoint: Checkpoint, height: int, width: int) -> None:
    """The network as published and its exact form, both as they are run in half precision."""
    last = torch.channels_last
    x = torch.rand(1, 3, height, width, device=profile.device) - 0.5
    x = x.to(profile.dtype).contiguous(memory_format=last)
    form = checkpoint.form((height, width), checkpoint.contract).form
    for label, network in (("fp16-cl", checkpoint.network), ("form-fp16-cl", form)):
        try:
            moved = copy.deepcopy(network).to(profile.device, profile.dtype).to(memory_format=last)
            profile_frame(profile, label, moved, x)
        except Exception as error:
            profile.note("kernels", {label: {"error": f"{type(error).__name__}: {error}"[:800]}})


def main() -> None:
    """Convolutions, then frames."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--network", default="banet")
    parser.add_argument("--size", default="720x1280")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--budget", type=float, default=100, help="seconds")
    arguments = parser.parse_args()
    profile = Profile(arguments.output, arguments.device, arguments.budget)
    height, width = (int(side) for side in arguments.size.split("x"))
    for key in ("network", "size"):
        profile.note(key, getattr(arguments, key))
    profile.note("device", torch.cuda.get_device_name() if profile.cuda else "cpu")
    torch.backends.cudnn.benchmark = True
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        checkpoint = random_checkpoint(arguments.network, 0, Path(folder))
        profile_convolutions(profile, checkpoint.network, height, width)
        whole_frames(profile, checkpoint, height, width)


if __name__ == "__main__":
    main()
