"""The loss of Octo's diffusion head: what is wrong in the predicted noise, at every step of the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vla_bench.learn.training.kind import Outcome
from vla_bench.policy.octo.heads import DiffusionHead


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples with W time steps, and H actions from each of them on.

    Attributes:
        pictures: The model's camera → (B, W, H, W, 3) uint8.
        numbers: (B, W, size) normalised state of the robot, or None.
        real: (B, W) which time steps are not before the beginning.
        texts: B instructions.
        actions: (B, W, H, A) normalised.
        mask: (B, W, H) which of them belong to the episode, of time steps that do.
        noise: (noises, B, W, H × A) normal numbers.
        steps: (noises, B, W) of the noise schedule.
        drawn: (B, …) random numbers of an answer of the head.
    """

    pictures: Mapping[str, Tensor]
    numbers: Tensor | None
    real: Tensor
    texts: Sequence[str]
    actions: Tensor
    mask: Tensor
    noise: Tensor
    steps: Tensor
    drawn: Tensor


def noise_loss(head: DiffusionHead, embedding: Tensor, batch: Batch) -> Tensor:
    """Mean square over all actions that count, summed over the numbers of an action, as in the original.

    Args:
        head: Computes in float32.
        embedding: (B, W, width) what the transformer says about every time step.
        batch: Samples.
    """
    kept = head.schedule.alpha_hats.to(embedding.device)[batch.steps][..., None]
    clean = batch.actions.flatten(-2).clamp(-head.largest, head.largest)
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * batch.noise
    predicted = head.score(embedding, noisy, batch.steps[..., None].float())
    square = (predicted - batch.noise).square().unflatten(-1, batch.actions.shape[-2:])
    return square.sum(-1).mean(0)[batch.mask].mean()


def answer(head: DiffusionHead, embedding: Tensor, batch: Batch) -> Tensor:
    """(B, H, A) actions, normalised, of the newest step."""
    start, noise = batch.drawn[:, 0], batch.drawn[:, 1:].movedim(1, 0)
    return head.sample(embedding[:, -1], start, noise, batch.actions.shape[-1])


def distance(said: Tensor, batch: Batch) -> float:
    """Mean absolute difference of the newest step's answer to the actions wanted."""
    return float((said - batch.actions[:, -1]).abs()[batch.mask[:, -1]].mean())


def outcome(loss: Tensor, batch: Batch, apart: float) -> Outcome:
    """What a batch came to."""
    return Outcome(loss, loss, None, np.full(batch.actions.shape[-1], float(batch.mask.sum())), apart)


def windows(values: Tensor, steps: int) -> Tensor:
    """(B, W + H − 1, …) from the oldest time step on → (B, W, H, …) from each of `steps` time steps on."""
    length = values.shape[1] - steps + 1
    return torch.stack([values[:, step : step + length] for step in range(steps)], dim=1)
