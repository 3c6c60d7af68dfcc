"""Where the time goes at one size: the kernels of a whole frame, then every convolution shape of the network alone.

    profile_gpu.py OUT.json --network banet --size 720x1280 [--budget 100] [--device cpu] [--engines NAME ...]

`kernels`: torch.profiler over three frames of each engine, as its CUDA graph replays them: every kernel, and the sum of
each kind. `conv`: FP16, channels last, cuDNN's search, inputs that take turns through more memory than the L2:
milliseconds, TFLOP/s, GB/s, share of the frame; the dearest first, as long as there is time.
"""

from __future__ import annotations

import argparse
import collections
import copy
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.engines.catalogue import open_engine
from unblur.engines.torch_cuda_runner import CudaVariant, TorchCudaRunner
from unblur.networks.checkpoints import Checkpoint
from unblur.networks.random_weights import random_checkpoint

Shape = tuple[bool, int, int, tuple[int, int], int, Any, int, tuple[int, int]]
"""Transposed, channels in and out, kernel, stride, padding, dilation, map."""

ENGINES = ("torch-cuda-form-compile-fp16-graph", "torch-cuda-form-fp16-graph")
KINDS = (
    ("concatenation", r"CatArray|^triton\w*_cat(_|\b)"),
    ("pointwise", r"^triton_(poi|per|red|for)|elementwise"),
    ("convolution", r"fprop|dgrad|implicit_gemm|xmma|^triton\w*conv"),
    ("matrix product", r"nvjet|gemm|cutlass|_mm(_|\b)"),
)
"""By names of kernels, the first that fits; Inductor names what it fused: triton_poi_fused_cat_leaky_relu_3."""


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


def shapes_of(network: nn.Module, height: int, width: int) -> tuple[collections.Counter[Shape], int]:
    """Every convolution that a frame meets, by shape, on device "meta"; and the multiply-accumulates of them all."""
    shapes: collections.Counter[Shape] = collections.Counter()
    macs = 0

    def see(module: Any, given: tuple[Tensor, ...], y: Tensor) -> None:
        nonlocal macs
        transposed = isinstance(module, nn.ConvTranspose2d)
        x = given[0]
        shapes[
            transposed, module.in_channels, module.out_channels, module.kernel_size, module.stride[0], module.padding,
            module.dilation[0], (x.shape[2], x.shape[3]),
        ] += 1  # fmt: skip
        macs += macs_of(module, x, y)

    meta = copy.deepcopy(network).to("meta")
    for module in meta.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(see)
    meta(torch.empty(1, 3, height, width, device="meta"))
    return shapes, macs


def macs_of(conv: Any, x: Tensor, y: Tensor) -> int:
    """Multiply-accumulates of a convolution."""
    per_pixel = y.numel() * conv.in_channels if isinstance(conv, nn.Conv2d) else x.numel() * conv.out_channels
    return int(per_pixel * conv.kernel_size[0] * conv.kernel_size[1])


def profile_convolution(profile: Profile, shape: Shape, count: int) -> dict[str, Any]:
    """One shape alone; on a GPU also without its bias, which tells what the bias costs."""
    transposed, cin, cout, kernel, stride, padding, dilation, (height, width) = shape
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv: Any = kind(cin, cout, kernel, stride=stride, padding=padding, dilation=dilation)
    conv = conv.to(profile.device, profile.dtype).to(memory_format=torch.channels_last).requires_grad_(False)
    x = profile.maps(cin, height, width)
    y = conv(x[0])
    macs = macs_of(conv, x[0], y)
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
    """All shapes, the dearest first, and the sum of those that there was time for."""
    shapes, all_macs = shapes_of(network, height, width)
    cost = lambda s: s[1] * s[2] * s[3][0] * s[3][1] * s[7][0] * s[7][1]  # noqa: E731
    rows = []
    for shape, count in sorted(shapes.items(), key=lambda item: -cost(item[0]) * item[1]):
        if profile.left_s < 0:
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
    profile.note("conv_total", {"frame_ms": total_ms, "TMAC": all_macs / 1e12, "TFLOP_s": rate})


def kind_of(kernel: str) -> str:
    """What a kernel does, by its name."""
    return next((kind for kind, words in KINDS if re.search(words, kernel)), "other")


def profile_frame(profile: Profile, label: str, frame: Callable[[], Any]) -> None:
    """The kernels of one frame, those that take longest first, and what each kind takes together."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    def frames() -> None:
        for _ in range(3):
            frame()
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
    kinds: dict[str, dict[str, float]] = collections.defaultdict(lambda: {"ms": 0.0, "launches": 0.0})
    for name, count, ms in rows:
        kinds[kind_of(name)]["ms"] += ms
        kinds[kind_of(name)]["launches"] += count
    top = [{"kernel": name[:220], "count": count, "ms": ms} for name, count, ms in rows[:60]]
    facts = {"sum_ms": sum(row[2] for row in rows), "launches": sum(row[1] for row in rows), "kinds": kinds, "top": top}
    profile.note("kernels", {label: facts})
    print(f"{label}: {facts['sum_ms']:.2f} ms in {facts['launches']:.0f} launches; "
          + ", ".join(f"{kind} {sums['ms']:.2f} ms" for kind, sums in kinds.items()), flush=True)  # fmt: skip


def whole_frames(profile: Profile, checkpoint: Checkpoint, names: Sequence[str], height: int, width: int) -> None:
    """Engines of the catalogue, on the device alone. Without a GPU the exact form as it is: compiling takes minutes."""
    for name in names:
        try:
            if profile.cuda:
                runner: Any = open_engine(name, checkpoint, None)
            else:
                runner = TorchCudaRunner(name, checkpoint, CudaVariant(form=True), device="cpu")
            with runner:
                size = runner.signature.contract.padded_size(height, width)
                shape = (1, *size, 3) if runner.signature.contract.layout == "nhwc" else (1, 3, *size)
                with runner.resident(shape) as frame:
                    profile_frame(profile, name, frame)
        except Exception as error:
            profile.note("kernels", {name: {"error": f"{type(error).__name__}: {error}"[:800]}})


def main() -> None:
    """Frames, then convolutions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--network", default="banet")
    parser.add_argument("--size", default="720x1280")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--budget", type=float, default=100, help="seconds")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES))
    arguments = parser.parse_args()
    profile = Profile(arguments.output, arguments.device, arguments.budget)
    height, width = (int(side) for side in arguments.size.split("x"))
    for key in ("network", "size"):
        profile.note(key, getattr(arguments, key))
    profile.note("device", torch.cuda.get_device_name() if profile.cuda else "cpu")
    torch.backends.cudnn.benchmark = True
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        checkpoint = random_checkpoint(arguments.network, 0, Path(folder))
        whole_frames(profile, checkpoint, arguments.engines, height, width)
        profile_convolutions(profile, checkpoint.network, height, width)


if __name__ == "__main__":
    main()
