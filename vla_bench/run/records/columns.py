"""Records as columns of Parquet, and back."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np
from pydantic_core import from_json

from vla_bench.run.records.files import Line
from vla_bench.run.records.inferences import Calls, Inferences
from vla_bench.run.records.schema import ErrorInfo, Record

if TYPE_CHECKING:
    import pyarrow as pa

SUCCESS = {"success": 1, "failure": 0, "error": None}
CALLS = tuple(column.name for column in fields(Inferences))

# Fields of a record that are columns as they are.
_PLAIN = tuple(field.name for field in fields(Record) if field.name not in ("drawn", "error", "inferences"))
_TYPES = get_type_hints(Record)
# The same few words in every row: read once each.
WORDS = (
    "file", "study_hash", "task_id", "suite", "stem", "task_axis", "task_group", "split", "variation",
    "instruction", "policy", "precision", "pacing", "latency", "status", "cause", "budget", "budget_ended",
    "fingerprint", "worker",
)  # fmt: skip


def episodes_schema() -> pa.Schema:
    """Columns of `episodes.parquet`.

    Those of a record (`drawn` as JSON), and: its `row` here, the `file` and `line` that it stands in,
    `success` (1, 0, or null for an error), `calls` (number of inferences).
    """
    import pyarrow as pa

    columns = [("row", pa.int64()), ("file", pa.string()), ("line", pa.int64())]
    for name in _PLAIN:
        columns.append((name, _arrow_type(name)))
        if name == "status":
            columns.append(("success", pa.int8()))
    texts = ("drawn", "error_type", "error_message", "error_traceback")
    columns += [*((name, pa.string()) for name in texts), ("calls", pa.int64())]
    return pa.schema(columns)


def inferences_schema() -> pa.Schema:
    """Columns of `inferences.parquet`: one row a call, null where not measured; `row` is the episode's."""
    import pyarrow as pa

    whole = [("row", pa.int64()), ("key", pa.string()), ("call", pa.int64())]
    return pa.schema([*whole, *((name, pa.float64()) for name in CALLS)])


def episodes_table(lines: Sequence[Line], first_row: int) -> pa.Table:
    """Rows of `episodes.parquet` from `first_row` on."""
    import pyarrow as pa

    records = [line.record for line in lines]
    made: dict[str, Sequence[Any]] = {
        "row": range(first_row, first_row + len(lines)),
        "file": [line.file for line in lines],
        "line": [line.number for line in lines],
        "success": [SUCCESS[record.status] for record in records],
        "drawn": [json.dumps(record.drawn, separators=(",", ":")) for record in records],
        "calls": [_calls(record.inferences) for record in records],
        **{name: [getattr(record, name) for record in records] for name in _PLAIN},
    }
    for name in ("type", "message", "traceback"):
        made[f"error_{name}"] = [getattr(record.error, name, None) for record in records]
    schema = episodes_schema()
    return pa.table({name: pa.array(made[name], schema.field(name).type) for name in schema.names}, schema)


def inferences_table(lines: Sequence[Line], first_row: int) -> pa.Table:
    """Rows of `inferences.parquet` that belong to episodes from `first_row` on."""
    import pyarrow as pa

    counts = np.array([_calls(line.record.inferences) for line in lines], dtype=np.int64)
    episode = np.repeat(np.arange(len(lines)), counts)
    keys = pa.array([line.record.key for line in lines], pa.string())
    call = np.arange(len(episode)) - np.repeat(np.cumsum(counts) - counts, counts)
    made: dict[str, Any] = {
        "row": pa.array(first_row + episode),
        "key": keys.take(pa.array(episode)),
        "call": pa.array(call),
    }
    for name in CALLS:
        columns = [getattr(line.record.inferences, name) for line in lines]
        missing = np.repeat([len(column) == 0 for column in columns], counts)
        values = np.full(len(episode), np.nan)
        if not missing.all():
            values[~missing] = np.frombuffer(b"".join(bytes(column) for column in columns if len(column)))
        made[name] = pa.array(values, mask=missing)
    schema = inferences_schema()
    return pa.table({name: made[name] for name in schema.names}, schema)


def lines_of(episodes: pa.Table, inferences: pa.Table) -> Iterator[Line]:
    """Rows of `episodes.parquet`, and of `inferences.parquet` that belong to them, as records."""
    columns: dict[str, Any] = {name: values_of(episodes[name]) for name in _PLAIN}
    columns["stages"] = map(tuple, columns["stages"])
    columns["drawn"] = map(from_json, values_of(episodes["drawn"]))
    parts = [values_of(episodes[f"error_{name}"]) for name in ("type", "message", "traceback")]
    columns["error"] = (None if part[0] is None else ErrorInfo(*part) for part in zip(*parts, strict=True))
    columns["inferences"] = _split(inferences, values_of(episodes["calls"]))
    places = values_of(episodes["file"]), values_of(episodes["line"])
    return map(Line, *places, _records(columns, episodes.num_rows))


def _records(columns: Mapping[str, Iterable[Any]], count: int) -> Sequence[Record]:
    """Records of their columns, set column by column: four times as fast as record by record."""
    made = [Record.__new__(Record) for _ in range(count)]
    for name, values in columns.items():
        deque(map(vars(Record)[name].__set__, made, values), maxlen=0)
    for record in made:
        record.__post_init__()
    return made


def _split(inferences: pa.Table, counts: Sequence[int]) -> Iterator[Inferences]:
    """The inferences of each episode, of which there are `counts`."""
    found = {name: inferences[name] for name in CALLS}
    empty = {name for name, column in found.items() if column.null_count == len(column)}
    calls = Calls(
        columns={
            name: b"" if name in empty else column.to_numpy().tobytes()  # NaN where nothing was measured
            for name, column in found.items()
        },
        partial=frozenset(name for name, column in found.items() if column.null_count) - empty,
    )
    return (calls.of(start, stop) for start, stop in pairwise(accumulate(counts, initial=0)))


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """A column's values in Python's types; null is None."""
    import pyarrow as pa

    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_dictionary(column.type):
        return [value for part in column.chunks for value in _looked_up(part)]
    if column.null_count or pa.types.is_list(column.type):
        return column.to_pylist()
    return column.to_numpy().tolist()


def _looked_up(part: pa.DictionaryArray) -> list[Any]:
    words = [*part.dictionary.to_pylist(), None]
    return [words[index] for index in part.indices.fill_null(len(words) - 1).to_numpy().tolist()]


def _calls(inferences: Inferences) -> int:
    return max(len(getattr(inferences, name)) for name in CALLS)


def _arrow_type(name: str) -> pa.DataType:
    """Type of a record's column, by the annotation of its field; what is no number is text."""
    import pyarrow as pa

    special = {
        "schema_version": pa.int64(),
        "peak_device_memory_bytes": pa.uint64(),
        "stages": pa.list_(pa.string()),
    }
    numbers = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    kinds = get_args(_TYPES[name]) or (_TYPES[name],)
    found = (numbers[kind] for kind in kinds if isinstance(kind, type) and kind in numbers)
    return special.get(name) or next(found, pa.string())


def steps_schema() -> pa.Schema:
    """Columns of `steps.parquet`: one row a policy period of a recorded episode.

    `time_s` is when it began. `state` is what was observed then; `action` the last command that the robot was
    given until its end, and `commanded` whether that was within it; `score` and `success` are those then.
    """
    import pyarrow as pa

    numbers = pa.list_(pa.float32())
    return pa.schema(
        [
            ("key", pa.string()), ("step", pa.int64()), ("time_s", pa.float64()), ("state", numbers),
            ("action", numbers), ("commanded", pa.bool_()), ("score", pa.float32()), ("success", pa.bool_()),
        ]
    )  # fmt: skip
