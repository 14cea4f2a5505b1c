"""Noise schedules: how much noise a diffusion step has, and how a step takes it out.

About what the schedulers of diffusers do, of which a policy needs a small part; the arithmetic is theirs,
term by term, so that actions agree to the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vla_bench.policy.diffusion.design import Diffusion

# (noisy actions, diffusion step) → what the network predicts
Predict = Callable[[Tensor, int], Tensor]


def betas_of(diffusion: Diffusion) -> Tensor:
    """(trained,) float32: the share of noise that each step adds."""
    n, first, last = diffusion.trained, diffusion.first, diffusion.last
    if diffusion.betas == "linear":
        return torch.linspace(first, last, n, dtype=torch.float32)
    if diffusion.betas == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, n, dtype=torch.float32) ** 2

    def remaining(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    values = [min(1 - remaining((i + 1) / n) / remaining(i / n), 0.999) for i in range(n)]
    return torch.tensor(values, dtype=torch.float32)


class Schedule:
    """The steps from noise to actions.

    Attributes:
        steps: Diffusion steps in the order in which they are taken.
        draws: How many arrays of noise a sample needs, the first to begin with.
    """

    def __init__(self, diffusion: Diffusion) -> None:
        self._diffusion = diffusion
        self._betas = betas_of(diffusion)
        self._alphas = 1.0 - self._betas
        self.remaining = torch.cumprod(self._alphas, dim=0)
        self._stride = diffusion.trained // diffusion.steps
        # where the stride does not divide the schedule, the old sampler takes more steps than it is asked for
        last = diffusion.trained if diffusion.sampler == "ddpm_single" else diffusion.steps * self._stride
        self.steps = list(reversed(range(0, last, self._stride)))
        self.draws = 1 if diffusion.sampler == "ddim" else sum(step > 0 for step in self.steps) + 1

    def sample(self, predict: Predict, noise: Sequence[Tensor]) -> Tensor:
        """Take the noise out of `noise[0]`.

        Args:
            predict: The network.
            noise: `draws` arrays of one shape.
        """
        actions, further = noise[0], iter(noise[1:])
        take = {"ddim": self._ddim, "ddpm": self._ddpm, "ddpm_single": self._ddpm_single}
        mean_and_deviation = take[self._diffusion.sampler]
        for step in self.steps:
            actions, deviation = mean_and_deviation(predict(actions, step), step, actions)
            if deviation is not None:
                actions = actions + deviation * next(further)
        return actions

    def with_noise(self, actions: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """(B, T, A) clean actions with the noise of (B,) steps, for training."""
        kept = self.remaining.to(actions.device)[steps][:, None, None]
        return kept**0.5 * actions + (1 - kept) ** 0.5 * noise

    def _clean(self, predicted: Tensor, actions: Tensor, now: Tensor) -> Tensor:
        clip = self._diffusion.clip
        clean = predicted
        if self._diffusion.predicts == "epsilon":
            clean = (actions - (1 - now) ** 0.5 * predicted) / now**0.5
        return clean if clip is None else clean.clamp(-clip, clip)

    def _before(self, step: int) -> Tensor:
        return self.remaining[step] if step >= 0 else torch.tensor(1.0)

    def _ddim(self, predicted: Tensor, step: int, actions: Tensor) -> tuple[Tensor, None]:
        now, then = self.remaining[step], self._before(step - self._stride)
        clean = self._clean(predicted, actions, now)
        # the noise is not computed anew from what was clipped; where the network predicts actions it is
        # computed from these before clipping
        noise = predicted
        if self._diffusion.predicts == "sample":
            noise = (actions - now**0.5 * predicted) / (1 - now) ** 0.5
        return then**0.5 * clean + (1 - then) ** 0.5 * noise, None

    def _ddpm(self, predicted: Tensor, step: int, actions: Tensor) -> tuple[Tensor, Tensor | None]:
        now, then = self.remaining[step], self._before(step - self._stride)
        return self._posterior(predicted, actions, step, now, then, now / then)

    def _ddpm_single(self, predicted: Tensor, step: int, actions: Tensor) -> tuple[Tensor, Tensor | None]:
        now, then = self.remaining[step], self._before(step - 1)
        return self._posterior(predicted, actions, step, now, then, self._alphas[step], self._betas[step])

    def _posterior(
        self, predicted: Tensor, actions: Tensor, step: int, now: Tensor, then: Tensor, alpha: Tensor,
        beta: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Mean and standard deviation of the actions at the step before; no noise at the last one."""
        beta = 1 - alpha if beta is None else beta
        of_clean = then**0.5 * beta / (1 - now)
        of_noisy = alpha**0.5 * (1 - then) / (1 - now)
        mean = of_clean * self._clean(predicted, actions, now) + of_noisy * actions
        if step == 0:
            return mean, None
        return mean, ((1 - then) / (1 - now) * beta).clamp(min=1e-20) ** 0.5
