"""Initial weights of new models: a matrix keeps the spread of its input, norms are one, biases zero."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

# name and shape → standard deviation; None for the usual one
Spread = Callable[[str, tuple[int, ...]], float | None]


def initial_weights(module: nn.Module, draws: np.random.Generator, spread: Spread) -> dict[str, Tensor]:
    """Return weights for every name in the state of a module, which may be on the meta device.

    Args:
        module: Its names and shapes.
        draws: Where they come from, in the order of the state.
        spread: What is not drawn with 1 / √(inputs of an output).
    """
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        shape = tuple(tensor.shape)
        if len(shape) < 2:
            state[name] = torch.full(shape, float(name.endswith("weight")))
            continue
        scale = spread(name, shape)
        scale = math.prod(shape[1:]) ** -0.5 if scale is None else scale
        state[name] = torch.from_numpy(draws.standard_normal(shape, dtype=np.float32)) * scale
    return state


def t5_spread(name: str, shape: tuple[int, ...], heads: int) -> float | None:
    """T5's own where it is not the usual one: its attention does not divide by the size of a head."""
    if name.endswith("embed_tokens.weight"):
        return 1.0
    if name.endswith("SelfAttention.q.weight"):
        return (shape[1] * shape[0] / heads) ** -0.5
    if name.endswith("relative_attention_bias.weight"):
        return 0.1
    return None
