"""The diffusion head's network and sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_bench.policy.octo.blocks import Mlp, norm
from vla_bench.policy.octo.settings import Diffusion

OFFSET = 0.008
MLP_RATIO = 4


@dataclass(frozen=True, slots=True)
class Schedule:
    """How much noise there is at each of S steps; computed in float32, as in the original.

    Attributes:
        betas: (S,) share of noise that a step adds.
        alphas: (S,) 1 − betas.
        alpha_hats: (S,) their products up to a step.
    """

    betas: Tensor
    alphas: Tensor
    alpha_hats: Tensor

    @classmethod
    def cosine(cls, steps: int) -> Schedule:
        """The cosine schedule. The offset is added after dividing by `steps`: not the usual formula."""
        times = torch.arange(steps + 1, device="cpu") / steps
        remaining = torch.cos((times + OFFSET) / (1 + OFFSET) * math.pi * 0.5) ** 2
        remaining = remaining / remaining[0]
        betas = (1 - remaining[1:] / remaining[:-1]).clamp(0, 0.999)
        return cls(betas, 1 - betas, (1 - betas).cumprod(0))


def denoise(
    predict: Callable[[Tensor, int], Tensor],
    schedule: Schedule,
    start: Tensor,
    noise: Tensor,
    *,
    kept: Tensor,
    largest: float,
) -> Tensor:
    """Turn noise into actions, one step after the other.

    The first step divides by sqrt(0.001): whatever differs before it is 31.6 times as large afterwards.

    Args:
        predict: Actions and step → the noise that is in them, of the same shape.
        schedule: Of S steps.
        start: (..., N) noise to begin with.
        noise: (S, ..., N) that of each step, the first of which is taken first.
        kept: (N,) bool; other numbers are noise as in training, for bodies with fewer of them.
        largest: Actions are clipped to ± this after every step.

    Returns:
        (..., N) actions.
    """
    betas, alphas, alpha_hats = schedule.betas, schedule.alphas, schedule.alpha_hats
    steps = range(len(betas) - 1, -1, -1)
    scale = (1 / alphas.sqrt()).tolist()
    part = ((1 - alphas) / (1 - alpha_hats).sqrt()).tolist()
    added, foreign = betas.sqrt().tolist(), (1 - alpha_hats).sqrt().tolist()
    x = start
    for fresh, step in zip(noise, steps, strict=True):
        x = scale[step] * (x - part[step] * predict(x, step))
        if step > 0:
            x = x + added[step] * fresh
        x = torch.where(kept, x.clamp(-largest, largest), foreign[step] * fresh)
    return x


class ResidualBlock(nn.Module):
    """A block of the score network."""

    def __init__(self, settings: Diffusion) -> None:
        super().__init__()
        width = settings.hidden_dim
        self.norm = norm(width) if settings.use_layer_norm else nn.Identity()
        self.mlp = Mlp(width, MLP_RATIO * width, width, nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden) → (..., hidden)."""
        return x + self.mlp(self.norm(x))


class ScoreNetwork(nn.Module):
    """Predicts the noise in actions.

    Args:
        settings: Sizes of the head.
        width: Features of what the transformer says about the observation.
    """

    def __init__(self, settings: Diffusion, width: int) -> None:
        super().__init__()
        time, hidden = settings.time_dim, settings.hidden_dim
        size = settings.action_horizon * settings.action_dim
        self.frequencies = nn.Parameter(torch.empty(time // 2, 1))
        self.condition = Mlp(time, 2 * time, time, nn.SiLU())
        self.first = nn.Linear(time + width + size, hidden)
        self.blocks = nn.ModuleList(ResidualBlock(settings) for _ in range(settings.num_blocks))
        self.last = nn.Linear(hidden, size)
        self.activation = nn.SiLU()

    def forward(self, embedding: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """(..., width) embedding, (..., size) noisy actions and their (..., 1) steps → (..., size) noise."""
        angles = 2 * math.pi * time.to(self.frequencies.dtype) @ self.frequencies.T
        when = self.condition(torch.cat([angles.cos(), angles.sin()], dim=-1))
        x = self.first(torch.cat([when, embedding.expand(*when.shape[:-1], -1), noisy], dim=-1))
        for block in self.blocks:
            x = block(x)
        return self.last(self.activation(x))
