"""Normalisation statistics of a checkpoint: data set → `action` or `proprio` → numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import DataError, UnknownNameError
from vla_bench.types import Array

FILE = "dataset_statistics.json"
# Fine-tuning on one data set may write its statistics without the level of data sets; here they get a name.
ONLY = "only"


@dataclass(frozen=True, slots=True)
class Tables:
    """Statistics by data set, and the file that they come from; a family says what their numbers mean."""

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

    def numbers(self, key: str, kind: str, names: tuple[str, str]) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Return two rows of numbers of a data set and the mask of what is normalised, (A,) each.

        Args:
            key: The data set.
            kind: `action` or `proprio`.
            names: Of the rows, for example `q01` and `q99`.

        Raises:
            DataError: The table has no such numbers, or they differ in length, or are not finite.
        """
        table = self.tables[key].get(kind)
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
        return first, second, mask
