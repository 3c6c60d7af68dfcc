"""Tables of what the GPU kit brought back from one card: the ladder, and what is left to gain on top of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from unblur.core.markdown import table_row

TOP = "form-compile-fp16-graph"
BLOCKS = 10
"""Of BANet, each with one of the convolutions below, two of 128 to 128 channels, and six branches of three."""
KINDS = (("convolutions", "fprop|dgrad"), ("matrix products of the pooling", "nvjet"), ("clearing memory", "Memset"))


def ladder(folder: Path) -> str:
    """What ran on one GPU: milliseconds between two events around the network, and with the copies there and back."""
    rows, about, profile = (json.loads((folder / f"{n}.json").read_text()) for n in ("speed", "machine", "profile"))
    ceiling, tmac = about["matmul_float16_TFLOP_s"], profile["conv_total"]["TMAC"]
    lines = [
        "| network | frame | engine | on the GPU, p50 (ms) | p10–p90 | with copies, p50 (ms) "
        "| TFLOP/s | of the ceiling | agrees |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(rows, key=lambda r: (r["network"], r["size"], -r["gpu_ms"]["p50"])):
        time = row["gpu_ms"]
        if (row["network"], row["size"]) == (profile["network"], profile["size"]):
            rate = 2e3 * tmac / time["p50"]
            work = f"{rate:.0f} | {rate / ceiling:.0%}"
        else:
            work = "– | –"
        copies = f"{row['frame_ms']['p50']:.1f}" if "frame_ms" in row else "–"
        agrees = "–" if row["agrees_db"] in ("Infinity", None) else f"{row['agrees_db']:.1f} dB"  # float32 itself
        lines.append(
            f"| {row['network']} | {row['size']} | {row['engine']} | {time['p50']:.2f} "
            f"| {time['p10']:.2f}–{time['p90']:.2f} | {copies} | {work} | {agrees} |"
        )
    name, driver = about["nvidia_smi"].splitlines()[1].split(", ")[:2]
    packages, fp8 = about["packages"], about["matmul_fp8_TFLOP_s"]
    fp8 = f"{fp8:.0f}" if isinstance(fp8, float) else "not measured"
    lines += [
        "",
        f"- {name}, driver {driver}, PyTorch {packages['torch']}, cuDNN {packages['nvidia-cudnn-cu13']}; "
        "clocks float, weights drawn from seed 0. "
        "Agrees: fidelity to float32 on the same GPU, in pixels of a range of 1.",
        f"- Ceilings measured on it: {ceiling:.0f} TFLOP/s in an FP16 product of 8192 "
        f"(FP8: {fp8}), {about['copy_TB_s']:.2f} TB/s copying, "
        f"{about['h2d_pinned_GB_s']:.0f} GB/s from pinned memory.",
    ]
    return "\n".join(lines)


def left_to_gain(folder: Path) -> str:
    """Where a frame of the compiled form goes at 720p, and what fusing could take off it at most: arithmetic on the
    card's numbers. A pass of its own takes what `leaky_relu` and `add` take there; other bytes go at a copy's rate.
    """
    rows, about, profile, cases = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("speed", "machine", "profile", "epilogues")
    )
    size = profile["size"]
    (frame,) = (row["gpu_ms"]["p50"] for row in rows if (row["engine"], row["size"]) == (TOP, size))
    eager = next(name for name in ("torch-cuda-form-fp16-graph", "form-fp16-cl") if name in profile["kernels"])
    kernels = profile["kernels"][eager]["top"]
    sums = {kind: sum(k["ms"] for k in kernels if re.search(words, k["kernel"])) for kind, words in KINDS}
    lines = [table_row(["part of the frame", "ms", "share"]), "|---|---:|---:|"]
    for kind, ms in sums.items():
        lines.append(table_row([kind, f"{ms:.2f}", f"{ms / frame:.0%}"]))
    rest = frame - sum(sums.values())
    lines.append(table_row(["all else, by subtraction", f"{rest:.2f}", f"{rest / frame:.0%}"]))
    lines += [
        "",
        table_row(["fused", "apart, ms", "fused, ms", "how often", "gains at most, ms"]),
        "|---|---:|---:|---:|---:|",
    ]
    gains = [gain(*one) for one in fusions(about, profile, cases)]
    lines += [line for line, _ in gains]
    total = sum(max(0.0, ms) for _, ms in gains)
    lines += [
        "",
        f"- Of the {frame:.2f} ms; convolutions, products and clearing are those of the eager form, whose cuDNN "
        "kernels the compiled one is taken to run, too: **its own kernels are not measured**.",
        f"- All that gains together: {total:.1f} ms, {total / frame:.0%}.",
    ]
    return "\n".join(lines)


def fusions(about: Any, profile: Any, cases: Any) -> list[tuple[str, float, float, int]]:
    """What could be fused: its text, milliseconds apart and fused, how often a frame has it."""
    ms = {(case["case"], tuple(case["shape"])): case["ms"] for case in cases if "case" in case}
    alone = {shape: time for (case, shape), time in ms.items() if case == "torch"}
    own = {row["name"]: row["ms"] for row in profile["other"]}
    wide, fuse, final, branch = (128, 128, 1), (192, 128, 1), (320, 128, 1), (128, 64, 3)
    height, width = (int(side) // 2 for side in profile["size"].split("x"))
    # To read, or to write, a map of 128 channels: the copy's rate counts both ways.
    map_ms = 128 * height * width * 2 / about["copy_TB_s"] / 1e9
    (last,) = (
        row["without_bias_ms"] for row in profile["conv"] if (row["in"], row["out"], row["kernel"]) == (64, 128, [1, 1])
    )
    return [
        ("bias and LeakyReLU or ReLU in the convolution, 128 to 128", alone[wide] + own["leaky_relu"],
         ms["bias+leaky", wide], 2 * BLOCKS),
        ("the same, 192 to 128", alone[fuse] + own["leaky_relu"], ms["bias+leaky", fuse], BLOCKS),
        ("bias, residual and LeakyReLU, 320 to 128", alone[final] + own["add"], ms["bias+add+leaky", final], BLOCKS),
        ("sigmoid and gate in the convolution, 128 to 128", alone[wide] + 3 * map_ms, ms["bias+sigmoid*map", wide],
         BLOCKS),
        ("three branches written into their slices, no concatenation", 3 * alone[branch] + own["cat of three halves"],
         3 * ms["bias into slice of 320", branch], 2 * BLOCKS),
        # Apart, strips are written (half a map), the convolution reads them and writes a map, the gate reads two and
        # writes one; fused, f is read and o is written.
        ("one kernel for strips, 1x1 convolution and gate on f", map_ms / 2 + last + 3 * map_ms, 2 * map_ms,
         BLOCKS),
    ]  # fmt: skip


def gain(text: str, apart: float, fused: float, count: int) -> tuple[str, float]:
    """A line of the table, and the milliseconds of a frame."""
    ms = count * (apart - fused)
    return table_row([text, f"{apart:.3f}", f"{fused:.3f}", str(count), f"{ms:.2f}" if ms > 0 else "loses"]), ms
