"""Weights that are made up: an architecture at its full size without a file, to measure speed and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vla_bench import seeding
from vla_bench.policy.tensors import StoredTensor


class Like(Protocol):
    """A tensor, or one in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its lengths."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Its type."""
        ...


def drawn(
    like: Mapping[str, Like], family: str, source: Path, device: torch.device
) -> dict[str, StoredTensor]:
    """Return tensors that are drawn when they are read, on the device that they stay on.

    They are of a size that keeps what passes through moderate: matrices and convolutions preserve the spread
    of their input, norms are near one. Read in the same order, they are the same every time.

    Args:
        like: Whose shapes they have, by name; a vector called `weight` belongs to a norm. What is no
            floating-point number is zero.
        family: Whose they are; two families draw different numbers.
        source: Stands for a file in errors.
        device: Where they are drawn.
    """
    seed = seeding.generator("policy", family, "random weights")
    generator = torch.Generator(device).manual_seed(int(seed.integers(1 << 31)))
    return {
        name: StoredTensor(source, tuple(each.shape), each.dtype, partial(_draw, name, each, generator))
        for name, each in like.items()
    }


def _draw(name: str, like: Like, generator: torch.Generator) -> Tensor:
    shape, vector = tuple(like.shape), len(like.shape) < 2
    if not like.dtype.is_floating_point:
        return torch.zeros(shape, dtype=like.dtype, device=generator.device)
    made = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    made *= 0.1 if vector else math.prod(shape[1:]) ** -0.5
    is_scale = vector and name.endswith(("weight", "running_var"))
    return made.add_(1.0) if is_scale else made
