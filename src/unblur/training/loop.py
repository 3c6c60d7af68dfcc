"""The training loop: from a configuration to a checkpoint, resumable at any moment.

Nothing is random in here that is not a function of the seed and the number of the iteration, so a run that was killed
and resumed gives, on a CPU with the same number of threads, the bits of one that was not.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from unblur.core.artefacts import write_json
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.images.pairs import find_pairs
from unblur.networks import build_network, load_checkpoint, save_checkpoint
from unblur.networks.family import Batch, Recipe
from unblur.networks.registry import family_of
from unblur.training.config import TrainingConfig
from unblur.training.fake_quantise import fake_quantise, observe
from unblur.training.pool import Pool
from unblur.training.samples import FolderSource, PoolSource, Samples, Source
from unblur.training.schedule import Stretch, learning_rate, stretches
from unblur.training.state import State
from unblur.training.team import Team, assemble

LOG_EVERY = 50
Pairs = Sequence[Tensor]
"""Blurred and sharp crops."""


def train(config: TrainingConfig, output: Path, progress: Progress = SILENT) -> Path:
    """Run, or go on with, the training `config` describes in the folder `output`; returns the checkpoint's path.

    Writes state.pt, config.json, log.json and <network>.safetensors there. Raises InputError for data that cannot be
    worked with, a state of another configuration, or a loss that is no longer finite.
    """
    checkpoint = output / f"{config.network.replace('_', '-')}.safetensors"
    if config.threads:
        torch.set_num_threads(config.threads)
    with assemble(config.device) as team:
        state = fresh_state(config, team, progress)
        first = copy.deepcopy(state.network)
        if state.resume(output) and team.leads:
            progress.note(f"resuming after {state.done} of {config.iterations} iterations")
        if state.done < config.iterations:
            source = open_source(config, output, team, progress)
            if config.fake_quantise is not None:
                # From the first weights, on a resume too: the grid is part of the configuration, not of the state.
                fake_quantise(state.network, observe(first, _first_samples(config, team, source)), config.fake_quantise)
            if team.leads:
                write_json(output / "config.json", config.model_dump(mode="json"))
            _run(config, team, state, source, output, progress)
        if team.leads:
            save_checkpoint(state.network, checkpoint)
            _write_log(state, output)
        team.wait()
    return checkpoint


def fresh_state(config: TrainingConfig, team: Team, progress: Progress = SILENT) -> State:
    """The state before the first iteration; the same weights on every process."""
    begun = None
    torch.manual_seed(config.seed)
    network = build_network(config.network).to(team.device)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    amp = {None: "off", torch.bfloat16: "bf16", torch.float16: "fp16"}[_amp_dtype(config, team.device)]
    recipe: Recipe = family_of(config.network).recipe(network, config.settings | {"amp": amp})
    recipe.initialise()
    if config.begin_with is not None:
        first = load_checkpoint(config.begin_with, config.channel_order, progress)
        begun = first.digest
        if first.name != config.network:
            raise InputError(f"begin_with is a {first.name}, but the network to train is {config.network}.")
        network.load_state_dict(first.network.state_dict())
    return State(network, recipe, config.digest(begun))


def open_source(config: TrainingConfig, output: Path, team: Team, progress: Progress) -> Source:
    """The pairs of the configuration; drawn scenes are made first where they are missing."""
    data = config.data
    if data.source != "synthetic":
        assert data.folder is not None  # load_config saw to it
        return FolderSource(find_pairs(data.folder, data.source, "train", progress))
    pool = Pool(output / "scenes", config.seed, data.scenes, data.scene_side_px, largest_scale=data.largest_scale)
    if team.leads:
        pool.fill(data.workers, progress)
    team.wait()
    return PoolSource(pool)


def _run(config: TrainingConfig, team: Team, state: State, source: Source, output: Path, progress: Progress) -> None:
    network = state.network.train()
    parallel = DistributedDataParallel(network) if team.size > 1 else network
    started, before, since = time.monotonic(), state.seconds, state.done
    summed: Counter[str] = Counter()
    batches = _batches(config, team, source, state.done)
    text = f"training {config.network} from iteration {state.done}"
    for rate, batch in progress.track(batches, text, config.iterations - state.done):
        summed.update(_step(config, team, state, parallel, rate, batch))
        state.done += 1
        state.seconds = before + time.monotonic() - started
        if state.done % LOG_EVERY == 0 or state.done == config.iterations:
            means = {name: team.mean(value / (state.done - since)) for name, value in sorted(summed.items())}
            state.curve.append({"iteration": state.done, "lr": rate, "seconds": state.seconds} | means)
            summed.clear()
            since = state.done
        if team.leads and (state.done % config.save_every == 0 or state.done == config.iterations):
            state.save(output)
            _write_log(state, output)


def _first_samples(config: TrainingConfig, team: Team, source: Source) -> Iterator[Tensor]:
    """The blurred crops that set the ranges of `fake_quantise`: the same on every process."""
    assert config.fake_quantise is not None
    samples = Samples(source, config.stages[0].crop_px, config.seed, config.contract)
    for k in range(config.fake_quantise.samples):
        yield samples[k][0][None].to(team.device)


def _batches(config: TrainingConfig, team: Team, source: Source, done: int) -> Iterator[tuple[float, Pairs]]:
    """(learning rate, this process's part of the batch) for every iteration that is left."""
    contract = config.contract
    workers = config.data.workers if config.data.source != "synthetic" else 0  # a crop of a pool costs nothing
    for stretch in stretches(config.stages, done):
        samples = Samples(source, stretch.stage.crop_px, config.seed, contract)
        share = team.share(stretch.stage.batch)
        loader = DataLoader(
            samples, batch_size=share, sampler=_Numbers(stretch, team), num_workers=workers,
            pin_memory=team.device.type == "cuda",
        )  # fmt: skip
        for k, batch in enumerate(loader, start=stretch.start - stretch.begin):
            yield learning_rate(stretch.stage, k), batch


class _Numbers:
    """Sample numbers of one process in order: of every batch the ranks take neighbouring parts."""

    def __init__(self, stretch: Stretch, team: Team) -> None:
        batch, share = stretch.stage.batch, team.share(stretch.stage.batch)
        starts = range(stretch.start, stretch.stop)
        first = stretch.first_sample + team.rank * share
        self._numbers = [first + i * batch + j for i in range(len(starts)) for j in range(share)]

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def _step(
    config: TrainingConfig, team: Team, state: State, network: nn.Module, rate: float, pairs: Pairs
) -> Mapping[str, float]:
    """One iteration; returns the losses. Raises InputError before one that is not finite touches the weights."""
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    blurred, sharp = (t.to(team.device, non_blocking=True, memory_format=layout) for t in pairs)
    dtype = _amp_dtype(config, team.device)

    def restore(frames: Tensor) -> Tensor:
        with torch.autocast(team.device.type, dtype, enabled=dtype is not None):
            restored: Tensor = network(frames)
        return restored

    try:
        return state.recipe.step(Batch(blurred, sharp, rate, restore))
    except FloatingPointError as error:
        raise InputError(
            f"{error} in iteration {state.done + 1}: the training diverged or its data is damaged. "
            f"The last saved state is untouched; lower first_lr or clip the gradient's norm, and start anew."
        ) from error


def _write_log(state: State, output: Path) -> None:
    write_json(output / "log.json", {"config_digest": state.config_digest, "curve": state.curve})


def _amp_dtype(config: TrainingConfig, device: torch.device) -> torch.dtype | None:
    """What autocast runs in; None for plain float32."""
    if config.amp == "auto":
        if device.type != "cuda":
            return None  # bfloat16 convolutions are slower than float32 on CPUs without the instructions
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.amp]
