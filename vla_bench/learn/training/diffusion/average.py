"""The moving average of weights that acts in the end."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

POWER, LARGEST = 0.75, 0.9999


def decay(step: int) -> float:
    """Share of the average that stays at a step, counted from 1: 1 − (step − 1)^(−3/4), as in the original.

    The first two steps replace it.
    """
    if step <= 2:
        return 0.0
    return min(1.0 - (step - 1.0) ** -POWER, LARGEST)


@torch.no_grad()
def follow(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], step: int) -> None:
    """Move an average, in place, towards the weights after a step."""
    for name, value in average.items():
        value.lerp_(weights[name].detach(), 1.0 - decay(step))
