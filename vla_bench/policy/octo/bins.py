"""Bins that stand for numbers."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-6

Kind = Literal["uniform", "normal"]


def edges(kind: Kind, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(count + 1,) float32 edges: at equal distances, or of equal shares of a normal distribution."""
    if kind == "uniform":
        return torch.linspace(low, high, count + 1, device="cpu")
    return torch.special.ndtri(torch.linspace(EPSILON, 1 - EPSILON, count + 1, device="cpu"))


@functools.cache
def _edges_on(
    kind: Kind, count: int, low: float, high: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The edges where they are used; never dropped, because recorded passes read them where they are."""
    return edges(kind, count, low, high).to(device, dtype)


@functools.cache
def centres_on(kind: Kind, count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The centres where they are used; never dropped, as the edges."""
    return centres(kind, count).to(device, dtype)


def centres(kind: Kind, count: int) -> Tensor:
    """(count,) float32 values that the bins of actions stand for."""
    borders = edges(kind, count)
    return (borders[1:] + borders[:-1]) / 2


def find(values: Tensor, kind: Kind, count: int, low: float, high: float) -> Tensor:
    """Numbers of any shape → their bins; what lies outside of all of them is in bin 0, as in the original."""
    borders = _edges_on(kind, count, low, high, values.device, values.dtype)
    if kind == "uniform":
        values = values.clamp(low + EPSILON, high - EPSILON)
    inside = (values[..., None] < borders[1:]) & (values[..., None] >= borders[:-1])
    return inside.int().argmax(-1)
