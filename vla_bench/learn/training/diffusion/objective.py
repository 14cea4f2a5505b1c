"""The loss: the mean square of what is wrong in the predicted noise, over whole chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vla_bench.learn.training.kind import Outcome
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples.

    Attributes:
        observations: Key → (B × history, …), normalised.
        texts: B instructions.
        actions: (B, horizon, A) normalised.
        mask: (B, horizon) which of them belong to the episode.
        noise: (noises × B, horizon, A) normal numbers, those for all samples one after the other.
        steps: (noises × B,) of the noise schedule.
    """

    observations: Mapping[str, Tensor]
    texts: Sequence[str]
    actions: Tensor
    mask: Tensor
    noise: Tensor
    steps: Tensor


def loss_of(net: DiffusionNet, schedule: Schedule, batch: Batch) -> Tensor:
    """Return the mean square of the difference, in normalised units.

    Every place counts, as in the original: before the beginning and beyond the end of an episode its first
    and its last action are repeated.
    """
    noises = len(batch.noise) // len(batch.actions)
    condition = net.condition(batch.observations, batch.texts).repeat(noises, 1)
    actions = batch.actions.repeat(noises, 1, 1)
    noisy = schedule.with_noise(actions, batch.noise, batch.steps)
    predicted = net.unet(noisy.to(condition.dtype), batch.steps, condition).float()
    wanted = batch.noise if net.design.diffusion.predicts == "epsilon" else actions
    return functional.mse_loss(predicted, wanted)


def answer(net: DiffusionNet, batch: Batch) -> Tensor:
    """(B, horizon, A) actions, normalised, that the first noise of every sample becomes.

    It is taken out by DDIM, whatever the policy's own sampler: that needs no further noise.
    """
    schedule = Schedule(net.design.diffusion.model_copy(update={"sampler": "ddim"}))
    condition = net.condition(batch.observations, batch.texts)
    return net.denoise(condition, [batch.noise[: len(condition)]], schedule)


def distance(said: Tensor, design: Design, batch: Batch) -> float:
    """Mean absolute difference of what a policy gives, from the newest frame on, to the actions wanted."""
    ahead = slice(design.history - 1, None)
    return float((said - batch.actions).abs()[:, ahead][batch.mask[:, ahead]].mean())


def outcome(loss: Tensor, batch: Batch, apart: float) -> Outcome:
    """What a batch came to."""
    count, horizon, size = batch.actions.shape
    return Outcome(loss, loss, None, np.full(size, float(count * horizon)), apart)


def drawn(shape: tuple[int, ...], trained: int, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Noise of a shape, and a step of a schedule for each of its rows."""
    noise = torch.from_numpy(draws.standard_normal(shape, dtype=np.float32))
    return noise, torch.from_numpy(draws.integers(trained, size=shape[0]))
