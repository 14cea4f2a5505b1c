"""From action tokens and normalised actions to numbers in physical units, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import DataError
from vla_bench.policy.statistics import FILE, Tables
from vla_bench.policy.tensors import read_json
from vla_bench.types import Array

# OFT divides and multiplies by (high − low + 1e-8), OpenVLA by (high − low)
OFT_EPSILON = 1e-8

Bounds = Literal["q99", "minmax"]
_KEYS: dict[Bounds, tuple[str, str]] = {"q99": ("q01", "q99"), "minmax": ("min", "max")}


@dataclass(frozen=True, slots=True)
class ActionTokens:
    """Action values in [−1, 1] as the last text tokens of the vocabulary.

    Attributes:
        bins: Number of edges; values are decoded to the bins − 1 centres between them.
        vocabulary: Number of text tokens.
    """

    bins: int = 256
    vocabulary: int = 32000

    @property
    def edges(self) -> Array:
        """(bins,) edges."""
        return np.linspace(-1, 1, self.bins)

    def encode(self, actions: Array) -> NDArray[np.int64]:
        """Values of any shape → token ids; the highest id is the lowest bin."""
        return self.vocabulary - np.digitize(np.clip(actions, -1, 1), self.edges)

    def decode(self, ids: NDArray[np.integer]) -> Array:
        """Token ids of any shape → bin centres; ids that are no action tokens count as the nearest one."""
        centres = (self.edges[:-1] + self.edges[1:]) / 2
        return centres[np.clip(self.vocabulary - np.asarray(ids) - 1, 0, len(centres) - 1)]

    def are_actions(self, ids: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Token ids of any shape → whether `encode` can give them."""
        return (ids >= self.vocabulary - self.bins) & (ids < self.vocabulary)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Linear map between [−1, 1] and what a data set holds.

    Attributes:
        low, high: (A,) values at −1 and +1.
        mask: (A,) which dimensions are mapped; the others are left as they are.
        epsilon: Added to the range.
    """

    low: Array
    high: Array
    mask: NDArray[np.bool_]
    epsilon: float = 0.0

    @property
    def size(self) -> int:
        """Number of dimensions."""
        return len(self.low)

    def unnormalise(self, actions: Array) -> Array:
        """(..., A) in [−1, 1] → (..., A) in the data set's units."""
        return np.where(
            self.mask, 0.5 * (actions + 1) * (self.high - self.low + self.epsilon) + self.low, actions
        )

    def normalise(self, values: Array) -> Array:
        """(..., A) in the data set's units → (..., A) clipped to [−1, 1], masked dimensions too."""
        scaled = 2 * (values - self.low) / (self.high - self.low + OFT_EPSILON) - 1
        return np.clip(np.where(self.mask, scaled, values), -1, 1)


class Statistics(Tables):
    """Statistics of a checkpoint by data set."""

    __slots__ = ()

    def scaling(self, key: str, kind: str, bounds: Bounds, epsilon: float = 0.0) -> Scaling:
        """Return the scaling of one data set.

        Args:
            key: The data set.
            kind: `action` or `proprio`.
            bounds: 1st and 99th percentile, or the extremes.
            epsilon: See `Scaling`.

        Raises:
            DataError: The table has no such numbers.
        """
        return Scaling(*self.numbers(key, kind, _KEYS[bounds]), epsilon)


def read_statistics(folder: Path, config: Mapping[str, Any]) -> Statistics:
    """Return the statistics of a checkpoint folder: its own file, which replaces what `config.json` holds.

    Raises:
        DataError: There are none, or the file is not a table of data sets.
    """
    path = folder / FILE
    tables = read_json(path) if path.is_file() else config
    source = path if path.is_file() else folder / "config.json"
    if not isinstance(tables, Mapping) or not all(isinstance(t, Mapping) for t in tables.values()):
        raise DataError(source, f"expected a table of data sets, found {type(tables).__name__}")
    if not tables:
        raise DataError(source, f"holds no normalisation statistics, and there is no {FILE}")
    return Statistics(tables, source)
