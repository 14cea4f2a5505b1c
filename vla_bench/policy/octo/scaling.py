"""From normalised numbers to those of a data set, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import DataError, MissingDataError, UnknownNameError
from vla_bench.policy.tensors import read_json
from vla_bench.types import Array

FILE = "dataset_statistics.json"
# Fine-tuning on one data set writes its statistics without the level of data sets; here they get a name.
ONLY = "only"
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


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of a checkpoint by data set, and the file that they come from."""

    tables: Mapping[str, Any]
    source: Path

    def key(self, wanted: Sequence[str]) -> str:
        """Return the first of the `wanted` data sets that exists; without any, the only one there is.

        Raises:
            UnknownNameError: None of them exists, or none is named and there are several; says which exist.
        """
        if len(self.tables) == 1 and (not wanted or ONLY in self.tables):
            return next(iter(self.tables))
        for key in wanted:
            if key in self.tables:
                return key
        raise UnknownNameError(
            "normalisation key", wanted[0] if wanted else "", self.tables, where=str(self.source)
        )

    def scaling(self, key: str, kind: str, normalisation: Normalisation) -> Scaling:
        """Return the scaling of one data set.

        Args:
            key: The data set.
            kind: `action` or `proprio`.
            normalisation: `normal` goes by mean and standard deviation, `bounds` by 1st and 99th percentile.

        Raises:
            DataError: The table has no such numbers, or they differ in length.
        """
        table = self.tables[key].get(kind)
        names = _KEYS[normalisation]
        if not isinstance(table, Mapping) or any(name not in table for name in names):
            found = ", ".join(table) if isinstance(table, Mapping) else "nothing"
            raise DataError(self.source, f"{key}.{kind}: expected {' and '.join(names)}, found {found}")
        try:
            first, second = (np.asarray(table[name], np.float64) for name in names)
        except (ValueError, TypeError) as error:
            raise DataError(self.source, f"{key}.{kind}: {' and '.join(names)} are not numbers") from error
        mask = np.asarray(table.get("mask", np.ones(first.shape)), bool)
        if first.ndim != 1 or not first.shape == second.shape == mask.shape:
            sizes = f"{first.size}, {second.size} and {mask.size}"
            raise DataError(self.source, f"{key}.{kind}: {', '.join(names)} and mask have {sizes} values")
        if not np.isfinite([first, second]).all():
            raise DataError(self.source, f"{key}.{kind}: {' or '.join(names)} is not finite")
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
