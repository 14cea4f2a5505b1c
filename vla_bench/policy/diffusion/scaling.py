"""How numbers of the world become numbers around zero, and back: by key, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vla_bench.errors import ConventionError


class Scaling(Protocol):
    """An invertible scaling of the last dimension, or of the channels of pictures."""

    def normalise(self, values: Tensor) -> Tensor:
        """World → network."""
        ...

    def unnormalise(self, values: Tensor) -> Tensor:
        """Network → world."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Affine:
    """x × scale + offset."""

    scale: Tensor
    offset: Tensor

    def normalise(self, values: Tensor) -> Tensor:
        """World → network."""
        return values * self.scale.to(values) + self.offset.to(values)

    def unnormalise(self, values: Tensor) -> Tensor:
        """Network → world."""
        return (values - self.offset.to(values)) / self.scale.to(values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its numbers."""
        return tuple(self.scale.shape)


@dataclass(frozen=True, slots=True)
class Standard:
    """Mean 0, deviation 1; the deviation is kept away from zero on the way in only."""

    mean: Tensor
    deviation: Tensor
    epsilon: float

    def normalise(self, values: Tensor) -> Tensor:
        """World → network."""
        return (values - self.mean.to(values)) / (self.deviation.to(values) + self.epsilon)

    def unnormalise(self, values: Tensor) -> Tensor:
        """Network → world."""
        return values * self.deviation.to(values) + self.mean.to(values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its numbers."""
        return tuple(self.mean.shape)


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` … `high` to −1 … 1."""

    low: Tensor
    width: Tensor

    @classmethod
    def between(cls, low: Tensor, high: Tensor, epsilon: float) -> Range:
        """Return the scaling of an interval; one without width gets `epsilon`."""
        width = high - low
        return cls(low, torch.where(width == 0, torch.full_like(width, epsilon), width))

    def normalise(self, values: Tensor) -> Tensor:
        """World → network."""
        return 2 * (values - self.low.to(values)) / self.width.to(values) - 1

    def unnormalise(self, values: Tensor) -> Tensor:
        """Network → world."""
        return (values + 1) / 2 * self.width.to(values) + self.low.to(values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its numbers."""
        return tuple(self.low.shape)


@dataclass(frozen=True, slots=True)
class Identity:
    """No scaling."""

    def normalise(self, values: Tensor) -> Tensor:
        """World → network."""
        return values

    def unnormalise(self, values: Tensor) -> Tensor:
        """Network → world."""
        return values

    @property
    def shape(self) -> tuple[int, ...]:
        """Fits anything."""
        return ()


def require_keys(scalings: Mapping[str, Scaling], sizes: Mapping[str, int], where: object) -> None:
    """See that everything that goes in or out of a network has a scaling of its size.

    Args:
        scalings: By key.
        sizes: Key → numbers, for pictures channels.
        where: The checkpoint, for errors.

    Raises:
        ConventionError: One is missing, or of another size.
    """
    if missing := [key for key in sizes if key not in scalings]:
        found = ", ".join(scalings) or "none"
        raise ConventionError(f"{where}: has no normalisation for {missing[0]!r}; it has {found}")
    for key, size in sizes.items():
        shape = scalings[key].shape
        numbers = torch.Size(shape).numel()
        if numbers not in (1, size):
            raise ConventionError(
                f"{where}: the normalisation of {key!r} has {numbers} numbers, the network takes {size}"
            )
