"""Reads the tables of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vla_bench.errors import DataError


def read_columns(path: Path) -> dict[str, Any]:
    """Columns of a table of frames as arrays: of numbers where they are, of objects otherwise.

    Raises:
        DataError: The file is missing, damaged or half-written.
    """
    table = _read(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def read_rows(path: Path, leave_out: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Rows of a table of episodes, without the columns whose names begin with one of `leave_out`.

    Raises:
        DataError: The file is missing, damaged or half-written.
    """
    table = _read(path)
    return table.select([name for name in table.column_names if not name.startswith(leave_out)]).to_pylist()


def _read(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(path, f"is missing, damaged or half-written: {error}") from error
