"""SQL over runs, by DuckDB; nothing is written, and a statement sees nothing but the runs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.errors import MissingCapabilityError, MissingDataError, VlaBenchError
from vla_bench.run.records.columns import steps_schema
from vla_bench.run.records.header import HEADER_FILE
from vla_bench.run.records.parquet import EPISODES, INFERENCES, RUNS, STEPS, compact, read_compaction

if TYPE_CHECKING:
    import duckdb

VIEWS = {"runs": RUNS, "episodes": EPISODES, "inferences": INFERENCES, "steps": STEPS}


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of the columns, each once, and the rows."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def table(self) -> list[dict[str, Any]]:
        """The rows by name."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


def query(sql: str, folders: Sequence[Path]) -> Answer:
    """Ask the views `runs`, `episodes`, `inferences` and `steps` of some results folders.

    Each has the column `run`: the folder's name, or the folder where several have that name. What is
    compacted is read as it is; other folders are compacted into a temporary one, and stay as they are.

    Raises:
        MissingCapabilityError: DuckDB is not installed.
        MissingDataError: A folder holds no run.
        VlaBenchError: It is no statement that only reads, or DuckDB refuses it.
    """
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise MissingCapabilityError("query needs DuckDB: pip install 'vla-bench[query]'") from error

    with tempfile.TemporaryDirectory() as room, duckdb.connect() as connection:
        with contextlib.suppress(duckdb.Error):  # a terminal's bar has no place among rows
            connection.execute("set enable_progress_bar = false")
        _make_views(connection, folders, Path(room))
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        try:
            statements = duckdb.extract_statements(sql)
            reads = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
            if [statement.type in reads for statement in statements] != [True]:
                raise VlaBenchError(f"{sql!r}: query takes one statement that reads, such as SELECT")
            connection.execute(statements[0])
            names = [column[0] for column in connection.description or ()]
            return Answer(tuple(_distinct(names)), tuple(connection.fetchall()))
        except duckdb.Error as error:
            views = ", ".join(VIEWS)
            raise VlaBenchError(f"{error}\nThere are {views}; `describe episodes` lists columns.") from error


def find_runs(folder: Path) -> list[Path]:
    """Every results folder in `folder`.

    Raises:
        MissingDataError: There is none.
    """
    found = sorted(path.parent for path in folder.rglob(HEADER_FILE))
    if not found:
        raise MissingDataError(f"{folder} holds no run (no {HEADER_FILE} in it); name a results folder")
    return found


def _make_views(connection: duckdb.DuckDBPyConnection, folders: Sequence[Path], room: Path) -> None:
    parts: dict[str, list[str]] = {view: [] for view in VIEWS}
    for number, (name, folder) in enumerate(zip(_names(folders), folders, strict=True)):
        compaction, at = read_compaction(folder), folder
        if compaction is None or not compaction.is_current(folder):
            at = room / str(number)
            at.mkdir()
            compaction = compact(folder, into=at)
        for view, file in VIEWS.items():
            path = folder / file if view == "steps" else at / file
            if not path.is_file():
                continue
            connection.register(f"_{view}_{number}", _dataset(path))
            counted = ""
            if view in ("episodes", "inferences") and compaction.superseded:
                counted = f" where row not in ({', '.join(map(str, compaction.superseded))})"
            quoted = name.replace("'", "''")
            parts[view].append(f"select '{quoted}' as run, * from _{view}_{number}{counted}")
    connection.register("_no_steps", steps_schema().empty_table())
    parts["steps"] = parts["steps"] or ["select '' as run, * from _no_steps"]
    for view, selects in parts.items():
        connection.execute(f"create view {view} as {' union all by name '.join(selects)}")


def _dataset(path: Path) -> Any:
    import pyarrow.dataset

    return pyarrow.dataset.dataset(path, format="parquet")


def _names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return [
        name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)
    ]


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Column names, those that come again with a number."""
    seen: set[str] = set()
    for name in names:
        found, number = name, 1
        while found in seen:
            found, number = f"{name}_{number}", number + 1
        seen.add(found)
        yield found
