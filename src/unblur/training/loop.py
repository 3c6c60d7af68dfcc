"""The training loop: from a configuration to a checkpoint, resumable at any moment.

Nothing is random in here that is not a function of the seed and the number of the iteration, so a run that was killed
and resumed gives, on a CPU with the same number of threads, the bits of one that was not.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
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
from unblur.training.config import TrainingConfig
from unblur.training.fake_quantise import fake_quantise, observe
from unblur.training.initial import initialise
from unblur.training.losses import deblurring_loss
from unblur.training.pool import Pool
from unblur.training.samples import FolderSource, PoolSource, Samples, Source
from unblur.training.schedule import Stretch, learning_rate, stretches
from unblur.training.state import State
from unblur.training.team import Team, assemble

LOG_EVERY = 50
Batch = Sequence[Tensor]


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
    network = build_network(config.network)
    initialise(network, config.seed, config.start)
    if config.begin_with is not None:
        first = load_checkpoint(config.begin_with, config.channel_order, progress)
        begun = first.digest
        if first.name != config.network:
            raise InputError(f"begin_with is a {first.name}, but the network to train is {config.network}.")
        network.load_state_dict(first.network.state_dict())
    network = network.to(team.device)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=config.stages[0].first_lr, betas=config.optimiser.betas)
    scaler = torch.amp.GradScaler(team.device.type, enabled=_amp_dtype(config, team.device) == torch.float16)
    return State(network, optimiser, scaler, config.digest(begun))


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
    started, before, summed, since = time.monotonic(), state.seconds, 0.0, state.done
    batches = _batches(config, team, source, state.done)
    text = f"training {config.network} from iteration {state.done}"
    for rate, batch in progress.track(batches, text, config.iterations - state.done):
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        summed += _step(config, team, state, parallel, batch)
        state.done += 1
        state.seconds = before + time.monotonic() - started
        if state.done % LOG_EVERY == 0 or state.done == config.iterations:
            mean = team.mean(summed / (state.done - since))
            row = {"iteration": state.done, "lr": rate, "loss": mean, "seconds": state.seconds}
            state.curve.append(row)
            summed, since = 0.0, state.done
        if team.leads and (state.done % config.save_every == 0 or state.done == config.iterations):
            state.save(output)
            _write_log(state, output)


def _first_samples(config: TrainingConfig, team: Team, source: Source) -> Iterator[Tensor]:
    """The blurred crops that set the ranges of `fake_quantise`: the same on every process."""
    assert config.fake_quantise is not None
    samples = Samples(source, config.stages[0].crop_px, config.seed, config.contract)
    for k in range(config.fake_quantise.samples):
        yield samples[k][0][None].to(team.device)


def _batches(config: TrainingConfig, team: Team, source: Source, done: int) -> Iterator[tuple[float, Batch]]:
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


def _step(config: TrainingConfig, team: Team, state: State, network: nn.Module, batch: Batch) -> float:
    """One iteration; returns the loss. Raises InputError before a loss that is not finite touches the weights."""
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    blurred, sharp = (t.to(team.device, non_blocking=True, memory_format=layout) for t in batch)
    dtype = _amp_dtype(config, team.device)
    with torch.autocast(team.device.type, dtype, enabled=dtype is not None):
        restored = network(blurred)
    loss = deblurring_loss(restored, sharp, config.loss.charbonnier_eps, config.loss.fft_weight)
    value = float(loss.detach())
    if not torch.isfinite(loss):
        raise InputError(
            f"The loss is {value} in iteration {state.done + 1}: the training diverged or its data is damaged. "
            f"The last saved state is untouched; lower first_lr or set optimiser.max_norm and start anew."
        )
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(state.scaler.scale(loss))
    if config.optimiser.max_norm:
        state.scaler.unscale_(state.optimiser)
        nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.max_norm)
    state.scaler.step(state.optimiser)
    state.scaler.update()
    return value


def _write_log(state: State, output: Path) -> None:
    write_json(output / "log.json", {"config_digest": state.config_digest, "curve": state.curve})


def _amp_dtype(config: TrainingConfig, device: torch.device) -> torch.dtype | None:
    """What autocast runs in; None for plain float32."""
    if config.amp == "auto":
        if device.type != "cuda":
            return None  # bfloat16 convolutions are slower than float32 on CPUs without the instructions
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.amp]
