"""The optimisers of a training, and their learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from vla_bench.errors import MissingCapabilityError
from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.kind import Learner

# tables, not maps between features: a step changes the rows of the tokens that it has seen
_TABLES = ("embed_tokens.weight", "lm_head.weight")


def rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of a step, counted from 1."""
    return config.learning_rate * _share(config, step)


class Optimisers:
    """AdamW over everything that is trained; or Muon over the matrices of hidden layers, AdamW over the rest.

    Only matrices are decayed. Muon is torch's (Jordan et al. 2024).
    """

    def __init__(self, learner: Learner) -> None:
        self._config = config = learner.config
        named = learner.trained()
        hidden = {
            name for name, value in named.items()
            if config.optimizer == "muon" and value.ndim == 2 and not name.endswith(_TABLES)
        }  # fmt: skip
        rest = [value for name, value in named.items() if name not in hidden]
        groups = [
            {"params": [value for value in rest if value.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [value for value in rest if value.ndim < 2], "weight_decay": 0.0},
        ]
        betas = (0.9, 0.95 if hidden else 0.999)
        self._all: list[tuple[Optimizer, float]] = [
            (AdamW([group for group in groups if group["params"]], config.learning_rate, betas),
             config.learning_rate)
        ]  # fmt: skip
        if hidden:
            matrices = [named[name] for name in sorted(hidden)]
            self._all.append((_muon(matrices, config), config.matrix_rate))
        self._owner = {
            parameter: optimiser
            for optimiser, _ in self._all
            for group in optimiser.param_groups
            for parameter in group["params"]
        }

    def step(self, number: int) -> None:
        """Take step `number`, counted from 1, and forget the gradients."""
        share = _share(self._config, number)
        for optimiser, initial in self._all:
            for group in optimiser.param_groups:
                group["lr"] = initial * share
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self, parameter: nn.Parameter) -> dict[str, Any]:
        """What is remembered of a parameter between steps, by kind; may be changed."""
        return self._owner[parameter].state[parameter]


def _muon(matrices: list[nn.Parameter], config: TrainingConfig) -> Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise MissingCapabilityError(
            f"optimizer = 'muon' needs torch 2.9 or newer, this is {torch.__version__}; 'adamw' does not"
        )
    return torch.optim.Muon(matrices, config.matrix_rate, weight_decay=config.weight_decay)


def _share(config: TrainingConfig, step: int) -> float:
    if step <= config.warmup_steps:
        return step / config.warmup_steps
    if config.decay_steps is None:
        return 1.0
    gone = min((step - config.warmup_steps) / (config.decay_steps - config.warmup_steps), 1.0)
    return 0.1 + 0.9 * (1 + math.cos(math.pi * gone)) / 2
