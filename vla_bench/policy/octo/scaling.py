"""From normalised numbers to those of a data set, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import DataError, MissingDataError
from vla_bench.policy.statistics import FILE, ONLY, Tables
from vla_bench.policy.tensors import read_json
from vla_bench.types import Array

# the original's, so that a constant is not divided by zero
EPSILON = 1e-8

Normalisation = Literal["normal", "bounds"]
_KEYS: dict[Normalisation, tuple[str, str]] = {"normal": ("mean", "std"), "bounds": ("p01", "p99")}


@dataclass(frozen=True, slots=True)
class Scaling:
    """A linear map for every dimension.

    Attributes:
        scale, offset: (A,) what 1 and 0 mean: standard deviation and mean, or half the range and its middle.
        mask: (A,) which dimensions are mapped; the others are left as they are.
    """

    scale: Array
    offset: Array
    mask: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """Number of dimensions."""
        return len(self.scale)

    def unnormalise(self, values: Array) -> Array:
        """(..., ≥ A) normalised → (..., A) in the data set's units."""
        values = values[..., : self.size]
        return np.where(self.mask, values * self.scale + self.offset, values)

    def normalise(self, values: Array) -> Array:
        """(..., A) in the data set's units → (..., A)."""
        return np.where(self.mask, (values - self.offset) / (self.scale + EPSILON), values)


class Statistics(Tables):
    """Statistics of a checkpoint by data set."""

    __slots__ = ()

    def scaling(self, key: str, kind: str, normalisation: Normalisation) -> Scaling:
        """Return the scaling of one data set.

        Args:
            key: The data set.
            kind: `action` or `proprio`.
            normalisation: `normal` goes by mean and standard deviation, `bounds` by 1st and 99th percentile.

        Raises:
            DataError: The table has no such numbers.
        """
        first, second, mask = self.numbers(key, kind, _KEYS[normalisation])
        if normalisation == "normal":
            return Scaling(second, first, mask)
        half = (second - first) / 2
        return Scaling(half, first + half, mask)


def read_statistics(folder: Path) -> Statistics:
    """Return the statistics of a checkpoint folder.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is not a table of data sets.
    """
    path = folder / FILE
    if not path.is_file():
        raise MissingDataError(f"{path}: missing; without it actions have no units")
    tables = read_json(path)
    if isinstance(tables, Mapping) and "action" in tables:
        tables = {ONLY: tables}
    if (
        not isinstance(tables, Mapping)
        or not tables
        or not all(isinstance(t, Mapping) for t in tables.values())
    ):
        raise DataError(path, f"expected a table of data sets, found {type(tables).__name__}")
    return Statistics(tables, path)
