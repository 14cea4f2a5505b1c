"""The optimiser of a training, and its learning rate."""

from __future__ import annotations

import math

from torch.optim import AdamW

from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.kind import Learner


def rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of a step, counted from 1."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if config.decay_steps is None:
        return config.learning_rate
    gone = min((step - config.warmup_steps) / (config.decay_steps - config.warmup_steps), 1.0)
    return config.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * gone)) / 2)


def make_optimizer(learner: Learner) -> AdamW:
    """AdamW over everything that is trained; only matrices are decayed."""
    config, values = learner.config, list(learner.trained().values())
    matrices = [value for value in values if value.ndim >= 2]
    vectors = [value for value in values if value.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=config.learning_rate)
