"""What the detectors say of clean pictures and of faults put in; writes detectors.json beside this file.

    python docs/lab/measure_detectors.py [FOLDER_OF_BLURRED_PHOTOGRAPHS]
    python docs/lab/measure_detectors.py --cost        the cost alone, on an idle machine

Clean: drawn held-out scenes, and three crops of each photograph where a folder is given, restored by the bundled
network. Against the input alone also the sharp truth of drawn scenes, which no network restores better, and inputs with
noise or sharpening; against the reference the engines in 8 bits, and the reference with noise. A threshold is argued
from the largest number among all of these. The cost is that of the cheap form beside one run of an engine at 720p.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from unblur.core.artefacts import write_json
from unblur.core.provenance import machine, package_versions
from unblur.engines.runner import restore_frame
from unblur.images.contract import Frame
from unblur.images.files import read_picture
from unblur.images.listing import find_pictures
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.detectors.detect import DETECTORS, detect, statistics_of
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline.opening import open_runner
from unblur.pipeline.places import artefact_folder, bundled_checkpoint
from unblur.pipeline.store import Store

SIDE = 256
DRAWN, TRUTHS = range(100, 124), range(300, 360)
CROPS = ((0, 0), (200, 400), (360, 800))
REFERENCE, CANDIDATES = "openvino", ("onnxruntime-int8", "openvino-int8")
Picture = tuple[Frame, Frame, Frame | None]
"""Blurred, restored, and the reference's."""


def bytes_of(values: NDArray[Any]) -> Frame:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noisy(frame: Frame) -> Frame:
    return bytes_of(frame + np.random.default_rng(0).normal(0, 1, frame.shape))


def sharpened(frame: Frame) -> Frame:
    wide = frame.astype(np.float32)
    return bytes_of(wide + 0.5 * (wide - gaussian_filter(wide, (1, 1, 0))))


def moved(frame: Frame, rows: int, columns: int) -> Frame:
    return np.pad(frame, ((rows, 0), (columns, 0), (0, 0)), mode="edge")[: frame.shape[0], : frame.shape[1]]


def tiled(frame: Frame) -> Frame:
    signs = np.indices(frame.shape[:2]) // 64
    return bytes_of(frame + 4.0 * np.where(signs.sum(0) % 2, -1, 1)[..., None])


def blocked(frame: Frame, value: int) -> Frame:
    result = frame.copy()
    result[32:80, 48:100] = value
    return result


def rung(frame: Frame) -> Frame:
    swing = 25 * np.cos(np.pi * np.arange(8)) * np.exp(-np.arange(8) / 4)
    return bytes_of(frame + np.pad(swing, (0, frame.shape[1] - 8))[:, None])


FAULTS: dict[str, tuple[str, Callable[[Frame], Frame]]] = {
    "red and blue swapped": ("swapped channels", lambda f: f[..., ::-1]),
    "a pixel to the right": ("shift", lambda f: moved(f, 0, 1)),
    "half a pixel down": ("shift", lambda f: bytes_of((f + moved(f, 1, 0).astype(np.float32)) / 2)),
    "tiles of 64, 8 levels apart": ("seam", tiled),
    "limited range, 16 to 235": ("wrong range", lambda f: bytes_of(16 + f * (219 / 255))),
    "gamma 1.2": ("wrong range", lambda f: bytes_of(255 * (f / 255) ** 1.2)),
    "gamma 2.2": ("wrong range", lambda f: bytes_of(255 * (f / 255) ** 2.2)),
    "cut off at 160": ("clipped range", lambda f: np.minimum(f, 160)),
    "every fourth level": ("banding", lambda f: f // 4 * 4),
    "a black block": ("constant block", lambda f: blocked(f, 0)),
    "a grey block": ("constant block", lambda f: blocked(f, 128)),
    "8 levels of red": ("colour cast", lambda f: bytes_of(f + np.array([8.0, 0, 0]))),
    "ringing, 25 levels at the left": ("border ringing", rung),
}
"""Detector that is meant to see it, and what is done to a restored picture."""


def clean_frames(photographs: Path | None) -> dict[str, Frame]:
    frames = {f"drawn {seed}": synthetic_pair(seed, SIDE, SIDE, "heldout")[0] for seed in DRAWN}
    for path in find_pictures(photographs) if photographs else ():
        whole = read_picture(path).frame
        for top, left in CROPS:
            frames[f"{path.name} {top},{left}"] = np.ascontiguousarray(whole[top : top + SIDE, left : left + SIDE + 64])
    return frames


def distribution(pictures: Mapping[str, Picture]) -> dict[str, Any]:
    """Of each detector: how many pictures it could judge, median, 95th percentile, the largest and its picture."""
    seen = {name: statistics_of(*picture) for name, picture in pictures.items()}
    result = {}
    for one in DETECTORS:
        values = {name: value for name, each in seen.items() if (value := each[one.name]) is not None}
        if values:
            largest = max(values, key=lambda name: values[name])
            numbers = list(values.values())
            p50, p95 = (round(float(np.quantile(numbers, q)), 4) for q in (0.5, 0.95))
            result[one.name] = {"judged": len(numbers), "median": p50, "p95": p95,
                                "largest": round(values[largest], 4), "of": largest}  # fmt: skip
    alarms = [f"{name}: {found.text}" for name, picture in pictures.items() for found in detect(*picture)]
    return {"pictures": len(pictures), "false_alarms": alarms, "statistics": result}


def caught(frames: Mapping[str, Frame], restored: Mapping[str, Frame]) -> list[dict[str, Any]]:
    rows = []
    names = list(frames)
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    specials: dict[str, tuple[str, Callable[[str], Frame]]] = {
        "the input": ("output equals input", lambda name: frames[name]),
        "the next frame": ("wrong frame", lambda name: restored[following[name]]),
        "6 pixels on, as in a video": ("wrong frame", lambda name: moved(restored[name], 4, 6)),
    }
    for fault, (detector, make) in FAULTS.items():
        specials[fault] = (detector, lambda name, make=make: make(restored[name]))
    for fault, (detector, of) in specials.items():
        counts = {"against_reference": 0, "against_input": 0}
        usable = [name for name in names if of(name).shape == frames[name].shape]
        for name in usable:
            for form, reference in (("against_reference", restored[name]), ("against_input", None)):
                found = detect(frames[name], np.ascontiguousarray(of(name)), reference)
                counts[form] += detector in {one.detector for one in found}
        rows.append({"fault": fault, "detector": detector, "pictures": len(usable), **counts})
    return rows


def cost(run: Callable[[Frame], Frame]) -> dict[str, Any]:
    """Median milliseconds of five turns, at 720p."""
    frame = np.tile(synthetic_pair(100, 360, 640, "heldout")[0], (2, 2, 1))
    engine, detectors = [], []
    for _ in range(5):
        began = time.perf_counter()
        restored = run(frame)
        between = time.perf_counter()
        detect(frame, restored)
        engine.append(between - began)
        detectors.append(time.perf_counter() - between)
    ms = [round(median(times) * 1000, 1) for times in (engine, detectors)]
    return {"engine": REFERENCE, "engine_ms": ms[0], "detectors_ms": ms[1], "share": round(ms[1] / ms[0], 4)}


def measure_cost() -> None:
    """The cost alone, again; the rest of detectors.json stays as it is."""
    checkpoint = load_checkpoint(bundled_checkpoint())
    with open_runner(REFERENCE, checkpoint, Store(artefact_folder(), print), lambda: {(SIDE, SIDE): 1}) as runner:
        restore_frame(runner, np.zeros((720, 1280, 3), np.uint8))
        costs = cost(lambda frame: restore_frame(runner, frame))
    print(costs)
    path = Path(__file__).parent / "detectors.json"
    write_json(path, json.loads(path.read_text()) | {"cost_720p": costs | {"load": round(os.getloadavg()[0], 1)}})


def main(photographs: Path | None) -> None:
    frames = clean_frames(photographs)
    checkpoint = load_checkpoint(bundled_checkpoint())
    store = Store(artefact_folder(), print)
    restored: dict[str, dict[str, Frame]] = {}
    costs: dict[str, Any] = {}
    for engine in (REFERENCE, *CANDIDATES):
        with open_runner(engine, checkpoint, store, lambda: {(SIDE, SIDE): 1}) as runner:
            restored[engine] = {name: restore_frame(runner, frame) for name, frame in frames.items()}
            if engine == REFERENCE:
                costs = cost(lambda frame: restore_frame(runner, frame))
    base = restored[REFERENCE]
    truths = {f"drawn {seed}": synthetic_pair(seed, SIDE, SIDE, "heldout") for seed in TRUTHS}
    panels: dict[str, dict[str, Picture]] = {
        "against input: restored": {name: (frames[name], base[name], None) for name in frames},
        "against input: the truth itself": {name: (*pair, None) for name, pair in truths.items()},
        "against input: noise of sigma 1": {name: (f, noisy(f), None) for name, f in frames.items()},
        "against input: sharpened": {name: (f, sharpened(f), None) for name, f in frames.items()},
        "against reference: noise of sigma 1": {name: (f, noisy(base[name]), base[name]) for name, f in frames.items()},
    }
    for engine in CANDIDATES:
        panels[f"against reference: {engine}"] = {n: (f, restored[engine][n], base[n]) for n, f in frames.items()}
    clean = {title: distribution(pictures) for title, pictures in panels.items()}
    thresholds = []
    for one in DETECTORS:
        row: dict[str, Any] = {"detector": one.name}
        for form, limit in (("reference", one.against_reference), ("input", one.against_input)):
            told = [panel["statistics"].get(one.name) for title, panel in clean.items() if form in title.split(":")[0]]
            largest = max(each["largest"] for each in told if each)
            row |= {f"against_{form}": limit, f"largest_clean_{form}": largest}
        thresholds.append(row)
        print(row, flush=True)
    write_json(
        Path(__file__).parent / "detectors.json",
        {"checkpoint_sha256": checkpoint.digest, "reference": REFERENCE, "thresholds": thresholds, "clean": clean,
         "faults": caught(frames, base), "cost_720p": costs, "machine": machine(), "versions": package_versions()},
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:] == ["--cost"]:
        measure_cost()
    else:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
