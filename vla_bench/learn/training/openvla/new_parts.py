"""Initial weights of OFT's parts, for models that had none."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from vla_bench import seeding


def initialised(part: nn.Module, name: str, seed: int) -> nn.Module:
    """Draw the weights of `part`: matrices keep the spread of their input, norms are one, biases zero."""
    draws = seeding.generator("policy", "training", name, seed)
    for key, value in part.named_parameters():
        if value.ndim < 2:
            value.data.fill_(float(key.endswith("weight")))
        else:
            drawn = draws.standard_normal(tuple(value.shape), dtype=np.float32) * value.shape[1] ** -0.5
            value.data.copy_(torch.from_numpy(drawn))
    return part
