"""The training loop: resumable at any step, and the same weights however often it was killed.

Nothing in it depends on what happened before but weights, optimizer and averages: the batch, the
noise and the timesteps of a step are drawn from (seed, step).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from mpdit_core.config import ModelConfig, TrainConfig
from mpdit_core.data import DataSplit
from mpdit_core.ema import PowerEMA
from mpdit_core.errors import Diverged, InvalidConfig
from mpdit_core.layers import force_norms
from mpdit_core.loss import diffusion_loss
from mpdit_core.model import MPDiT
from mpdit_core.noise import generator
from mpdit_core.runs.recording import RunWriter
from mpdit_core.runs.weights import SIGMA_DECIMALS, sigma_text

OnStep = Callable[[int, float], None]
"""Called after each step with (step, running training loss)."""

RUNNING_SHARE = 0.02
"""Share of the newest batch in the running training loss."""

HELDOUT_REPEATS = 4
"""How often each held-out image is noised, at timesteps spread evenly, for the held-out loss."""


@dataclass
class TrainingState:
    """All that a step changes. step counts finished updates; loss is the running noise loss."""

    model: MPDiT
    optimizer: torch.optim.Optimizer
    averages: list[PowerEMA]
    step: int = 0
    loss: float | None = None
    seconds: float = 0.0


def learning_rate_at(step: int, training: TrainConfig) -> float:
    """Learning rate of update `step` = 1, 2, ...: linear rise, constant, then 1/sqrt(t) [EDM2]."""
    rise = min(1.0, step / training.warmup) if training.warmup else 1.0
    return training.learning_rate * rise * min(1.0, (training.decay_start / step) ** 0.5)


def batch_indices(count: int, training: TrainConfig, step: int) -> Tensor:
    """Training samples of update `step` = 1, 2, ...: epochs of shuffled samples, cut in batches."""
    first = (step - 1) * training.batch
    positions = torch.arange(first, first + training.batch)
    chosen = torch.empty_like(positions)
    for epoch in positions.div(count, rounding_mode="floor").unique().tolist():
        order = torch.randperm(count, generator=generator(training.seed, "epoch", epoch))
        here = positions // count == epoch
        chosen[here] = order[positions[here] % count]
    return chosen


def train(
    folder: Path,
    config: ModelConfig,
    training: TrainConfig,
    data: DataSplit,
    on_step: OnStep | None = None,
    until: int | None = None,
) -> None:
    """Train into a run folder, or go on with it; `until`: stop early, to go on another time.

    Raises InvalidConfig if the folder holds another run, AlreadyExists if another process trains in
    it, Diverged if the loss is no number."""
    accelerator = Accelerator()
    state = _start(config, training)
    writer = RunWriter(folder, config, training, data.info)
    last = training.steps if until is None else min(until, training.steps)
    with writer.opened(state):
        if state.step == 0:
            writer.save_weights(state)
        _place(accelerator, state)
        while state.step < last:
            _update(accelerator, state, training, data)
            _record(writer, state, training, data)
            if on_step is not None:
                on_step(state.step, state.loss or 0.0)
        if state.step >= training.steps:
            writer.finish()
        elif state.step == last:
            writer.save_state(state)


def _place(accelerator: Accelerator, state: TrainingState) -> None:
    """Move all of the state to the device; `prepare` knows of model and optimizer only."""
    state.model, state.optimizer = accelerator.prepare(state.model, state.optimizer)
    for average in state.averages:
        average.to(accelerator.device)


def _start(config: ModelConfig, training: TrainConfig) -> TrainingState:
    _refuse_nameless(training.sigma_rels)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = MPDiT(config)
    model.train()
    if config.forced_weight_normalization:
        force_norms(model)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=training.learning_rate, betas=(training.beta1, training.beta2)
    )
    averaged = {name for name, _ in model.named_parameters()}
    start = model.state_dict()
    averages = [PowerEMA(sigma_rel, start, averaged) for sigma_rel in training.sigma_rels]
    return TrainingState(model, optimizer, averages)


def _refuse_nameless(sigma_rels: tuple[float, ...]) -> None:
    """Averages are saved under their width's name, which has to tell them apart."""
    for sigma_rel in sigma_rels:
        if float(sigma_text(sigma_rel)) != sigma_rel or sigma_rels.count(sigma_rel) > 1:
            raise InvalidConfig(
                f"sigma_rels held {sigma_rel}; each has at most {SIGMA_DECIMALS} decimals, and "
                "none stands there twice"
            )


def _update(
    accelerator: Accelerator, state: TrainingState, training: TrainConfig, data: DataSplit
) -> None:
    """One optimizer step, and everything that follows from it."""
    began = time.perf_counter()
    step = state.step + 1
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(step, training)
    loss = diffusion_loss(state.model, *_batch(accelerator, state.model, training, data, step))
    accelerator.backward(loss.total)
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.model.config.forced_weight_normalization:
        force_norms(state.model)
    current = state.model.state_dict()
    for average in state.averages:
        average.update(current, step)
    noise_loss = float(loss.noise.detach().mean())
    if not math.isfinite(noise_loss):
        raise Diverged(
            f"The training loss was {noise_loss} at step {step}; lower the learning rate"
        )
    before = noise_loss if state.loss is None else state.loss
    state.loss = before + RUNNING_SHARE * (noise_loss - before)
    state.step = step
    state.seconds += time.perf_counter() - began


def _batch(
    accelerator: Accelerator, model: MPDiT, training: TrainConfig, data: DataSplit, step: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, labels (some dropped to null), timesteps, noise of update `step`."""
    draw = generator(training.seed, "step", step)
    indices = batch_indices(len(data.train_images), training, step)
    images, labels = data.train_batch(indices, draw)
    timesteps = torch.randint(model.config.timesteps, (len(labels),), generator=draw)
    noise = torch.randn(images.shape, generator=draw)
    dropped = torch.rand(len(labels), generator=draw) < training.label_dropout
    labels = torch.where(dropped, torch.tensor(model.config.null_label), labels)
    device = accelerator.device
    return images.to(device), labels.to(device), timesteps.to(device), noise.to(device)


def _record(
    writer: RunWriter, state: TrainingState, training: TrainConfig, data: DataSplit
) -> None:
    """Write what is due at this step; the resumable state last, so that it never runs ahead."""
    last = state.step == training.steps
    evaluate = last or state.step % training.evaluate_every == 0
    if evaluate or state.step % training.log_every == 0:
        writer.log(_metrics(state, training, data, evaluate))
    if last or (training.save_every and state.step % training.save_every == 0):
        writer.save_weights(state, half=not last)
    if last or state.step % training.ema_every == 0:
        writer.save_averages(state)
    if last or state.step % training.state_every == 0:
        writer.save_state(state)


def _metrics(
    state: TrainingState, training: TrainConfig, data: DataSplit, evaluate: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "step": state.step,
        "loss": state.loss,
        "learning_rate": learning_rate_at(state.step, training),
        "seconds": round(state.seconds, 2),
    }
    if evaluate:
        row["heldout_loss"] = heldout_loss(state.model, data)
        for average in state.averages:
            with torch.device("meta"):  # no random start; the average's own tensors are used
                averaged = MPDiT(state.model.config)
            averaged.load_state_dict(average.state, assign=True)
            row[f"heldout_loss_ema_{sigma_text(average.sigma_rel)}"] = heldout_loss(averaged, data)
    return row


@torch.no_grad()
def heldout_loss(model: MPDiT, data: DataSplit, repeats: int = HELDOUT_REPEATS) -> float:
    """Mean squared error of the noise on the held-out images, the same noise at every call.

    Timesteps are spread evenly over 0..T-1, so their mean is that of uniform timesteps."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    images = data.heldout_images.repeat(repeats, 1, 1, 1)
    labels = data.heldout_labels.repeat(repeats)
    draw = generator(0, "heldout")
    noise = torch.randn(images.shape, generator=draw)
    spread = (torch.arange(len(labels)) + 0.5) / len(labels) * model.config.timesteps
    timesteps = spread.long()[torch.randperm(len(labels), generator=draw)]
    parts = zip(*(part.split(360) for part in (images, labels, timesteps, noise)), strict=True)
    errors = [diffusion_loss(model, *(p.to(device) for p in part)).noise for part in parts]
    model.train(was_training)
    return float(torch.cat(errors).mean())
