"""The learning rate as a function of the iteration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unblur.training.config import Stage


def learning_rate(stage: Stage, k: int) -> float:
    """Rate of iteration k of a stage: linear warm-up, then a cosine or a line that ends on `last_lr` exactly.

    A cosine (Loshchilov and Hutter, ICLR 2017) without restarts.
    """
    if k < stage.warmup:
        return stage.first_lr * (k + 1) / (stage.warmup + 1)
    last = stage.iterations - 1
    if k >= last:
        return stage.last_lr
    done = (k - stage.warmup) / (last - stage.warmup)
    if stage.decay == "linear":
        return stage.first_lr + (stage.last_lr - stage.first_lr) * done
    return stage.last_lr + (stage.first_lr - stage.last_lr) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Stretch:
    """What is left of one stage: iterations `start` to `stop` of the whole run; sample numbers count from `sample`."""

    stage: Stage
    begin: int
    start: int
    stop: int
    first_sample: int


def stretches(stages: Sequence[Stage], done: int) -> list[Stretch]:
    """The stages that remain after `done` iterations of the run, the first of them cut."""
    left, begin, sample = [], 0, 0
    for stage in stages:
        stop = begin + stage.iterations
        if done < stop:
            start = max(done, begin)
            left.append(Stretch(stage, begin, start, stop, sample + (start - begin) * stage.batch))
        begin, sample = stop, sample + stage.iterations * stage.batch
    return left
