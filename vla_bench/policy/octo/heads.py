"""From what the transformer says to actions: by diffusion, by regression, or as bins."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vla_bench.policy.octo.bins import centres_on
from vla_bench.policy.octo.diffusion import Schedule, ScoreNetwork, denoise
from vla_bench.policy.octo.pooling import AttentionPooling
from vla_bench.policy.octo.settings import Continuous, Diffusion, Discrete
from vla_bench.policy.octo.settings import Head as HeadSettings


class Head(nn.Module, ABC):
    """Reads the tokens of one group.

    Args:
        settings: What `config.json` says.
        width: Features of a token.
        probes: Outputs of pooling by attention, where there is any.
    """

    def __init__(self, settings: HeadSettings, width: int, probes: int = 1) -> None:
        super().__init__()
        self.horizon, self.size = settings.action_horizon, settings.action_dim
        self.reads = settings.readout_key
        self.pooling = AttentionPooling(width, probes) if settings.use_map else None

    def pooled(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(..., n, width) tokens of a time step and (..., n) which count → (..., width)."""
        return tokens.mean(-2) if self.pooling is None else self.pooling(tokens, mask)[..., 0, :]

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> NDArray[np.float32]:
        """Draw the random numbers of one answer."""

    @abstractmethod
    def forward(self, tokens: Tensor, mask: Tensor, drawn: Tensor | None, size: int) -> Tensor:
        """Answer.

        Args:
            tokens: (..., n, width) of one time step.
            mask: (..., n) which of them count.
            drawn: (..., *shape of what `draw` draws) random numbers; None gives the likeliest answer, where
                there is such a thing.
            size: Numbers of an action that the body has; further ones mean nothing.

        Returns:
            (..., horizon, action size), normalised.
        """


class DiffusionHead(Head):
    """Denoises a chunk of actions."""

    def __init__(self, settings: Diffusion, width: int) -> None:
        super().__init__(settings, width)
        self.score = ScoreNetwork(settings, width)
        self.schedule = Schedule.cosine(settings.diffusion_steps)
        self.largest = settings.max_action

    def draw(self, generator: np.random.Generator) -> NDArray[np.float32]:
        """(steps + 1, horizon × size) normal numbers: the start, then those of each step."""
        steps = len(self.schedule.betas)
        return generator.standard_normal((steps + 1, self.horizon * self.size), dtype=np.float32)

    def forward(self, tokens: Tensor, mask: Tensor, drawn: Tensor | None, size: int) -> Tensor:
        """Answer, see `Head`."""
        if drawn is None:
            raise ValueError("diffusion begins with noise: there is no likeliest answer")
        start, noise = drawn[..., 0, :], drawn[..., 1:, :].movedim(-2, 0)
        return self.sample(self.pooled(tokens, mask), start, noise, size)

    def sample(self, embedding: Tensor, start: Tensor, noise: Tensor, size: int) -> Tensor:
        """(..., width), (..., horizon × size) and (steps, ..., horizon × size) → (..., horizon, size)."""
        kept = torch.arange(start.shape[-1], device=start.device) % self.size < size

        def predict(actions: Tensor, step: int) -> Tensor:
            time = torch.full((*actions.shape[:-1], 1), step, device=actions.device)
            return self.score(embedding, actions, time)

        flat = denoise(predict, self.schedule, start, noise, kept=kept, largest=self.largest)
        return flat.unflatten(-1, (self.horizon, self.size))


class ContinuousHead(Head):
    """One linear layer, squashed."""

    def __init__(self, settings: Continuous, width: int) -> None:
        super().__init__(settings, width)
        self.projection = nn.Linear(width, self.horizon * self.size)
        self.largest = settings.max_action

    def draw(self, generator: np.random.Generator) -> NDArray[np.float32]:
        """Nothing."""
        return np.zeros(0, np.float32)

    def forward(self, tokens: Tensor, mask: Tensor, drawn: Tensor | None, size: int) -> Tensor:
        """Answer, see `Head`."""
        flat = self.projection(self.pooled(tokens, mask))
        return (torch.tanh(flat / self.largest) * self.largest).unflatten(-1, (self.horizon, self.size))


class DiscreteHead(Head):
    """Chooses a bin for every number."""

    def __init__(self, settings: Discrete, width: int) -> None:
        one_each = settings.action_horizon * settings.action_dim
        self.tokens = {"": 1, "action_horizon": settings.action_horizon,
                       "pred_horizon": settings.action_horizon}.get(settings.token_per, one_each)  # fmt: skip
        super().__init__(settings, width, self.tokens)
        self.projection = nn.Linear(width, one_each // self.tokens * settings.vocab_size)
        self._bins = settings.normalization_type, settings.vocab_size

    def draw(self, generator: np.random.Generator) -> NDArray[np.float32]:
        """(horizon, size) uniform numbers in [0, 1)."""
        return generator.random((self.horizon, self.size), dtype=np.float32)

    def logits(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(..., n, width) tokens and (..., n) which count → (..., horizon, size, bins)."""
        if self.pooling is not None:
            tokens = self.pooling(tokens, mask)
        return self.projection(tokens).flatten(-2).unflatten(-1, (self.horizon, self.size, -1))

    def forward(self, tokens: Tensor, mask: Tensor, drawn: Tensor | None, size: int) -> Tensor:
        """Answer, see `Head`: a bin is drawn by its probability, or is the likeliest."""
        logits = self.logits(tokens, mask)
        if drawn is None:
            chosen = logits.argmax(-1)
        else:
            below = logits.double().softmax(-1).cumsum(-1)
            chosen = (below <= drawn[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)
        return centres_on(*self._bins, logits.device, logits.dtype)[chosen]


def build_head(settings: HeadSettings, width: int) -> Head:
    """Return the head that `config.json` describes, without weights."""
    if isinstance(settings, Diffusion):
        return DiffusionHead(settings, width)
    if isinstance(settings, Discrete):
        return DiscreteHead(settings, width)
    return ContinuousHead(settings, width)
