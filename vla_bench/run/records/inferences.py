"""What the inferences of an episode took, packed: a run has millions of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
from pydantic import GetPydanticSchema

from vla_bench.types import Array

# Numbers in a line of JSON, packed in memory.
Column = Annotated[Sequence[float], GetPydanticSchema(lambda _, handler: handler(list[float]))]
_BYTES = array("d").itemsize


class _Packed:
    """A slot that is no field: where the columns are that have not been unpacked yet."""

    __slots__ = ("_source",)

    _source: tuple[Calls, int, int]


@dataclass(frozen=True, slots=True)
class Inferences(_Packed):
    """What each inference of an episode took: columns with one entry a call, empty where not measured.

    Those of a compacted run are unpacked one by one, when they are first asked for.

    Attributes:
        preprocess_ms, inference_ms, postprocess_ms: Phases of computing, as the policy measured them.
        delay_ms: What the inference took on the virtual clock.
        observed_ms: When its observation was made, in simulated time since the policy's clock began.
        observation_age_ms: Age of the observation when its first action was applied, in simulated time.
        staleness_ms: How long the robot had no fresh command before it, in simulated time.
    """

    preprocess_ms: Column = ()
    inference_ms: Column = ()
    postprocess_ms: Column = ()
    delay_ms: Column = ()
    observed_ms: Column = ()
    observation_age_ms: Column = ()
    staleness_ms: Column = ()

    def __post_init__(self) -> None:
        lengths: set[int] = set()
        for name in _COLUMNS:
            column = getattr(self, name)
            if len(column):
                lengths.add(len(column))
            if not isinstance(column, array):
                object.__setattr__(self, name, array("d", column) if len(column) else ())
        if len(lengths) > 1:
            raise ValueError(f"columns of one episode's inferences have lengths {sorted(lengths)}")

    def __getattr__(self, name: str) -> Column:
        """Unpack a column: Python asks here for a field that was never set."""
        if name not in _COLUMNS:
            raise AttributeError(f"inferences have no {name!r}")
        column = array("d", self.packed(name)) or ()
        object.__setattr__(self, name, column)
        return column

    def packed(self, name: str) -> bytes:
        """A column as float64, one entry after the other."""
        try:
            calls, start, stop = self._source
        except AttributeError:
            return bytes(getattr(self, name) or b"")
        return calls.packed(name, start, stop)

    def latencies_ms(self) -> Array:
        """Total of the measured phases of each call."""
        return latencies_ms([self])


_COLUMNS = tuple(column.name for column in fields(Inferences))
_PHASES = ("preprocess_ms", "inference_ms", "postprocess_ms")
NO_INFERENCES = Inferences()


@dataclass(frozen=True, slots=True)
class Calls:
    """The inferences of many episodes, one after the other.

    Attributes:
        columns: Name → float64 as bytes; empty where no episode has them.
        partial: Columns that some of the episodes lack; theirs are NaN.
    """

    columns: Mapping[str, bytes]
    partial: frozenset[str]

    def of(self, start: int, stop: int) -> Inferences:
        """The inferences of one episode: those from `start`, and before `stop`."""
        if start == stop:
            return NO_INFERENCES
        made = Inferences.__new__(Inferences)
        object.__setattr__(made, "_source", (self, start, stop))
        return made

    def packed(self, name: str, start: int, stop: int) -> bytes:
        """A column of one episode; empty where it lacks it."""
        found = self.columns[name][start * _BYTES : stop * _BYTES]
        return b"" if name in self.partial and np.isnan(np.frombuffer(found)[0]) else found


def together(inferences: Iterable[Inferences], name: str) -> Array:
    """A column of many episodes as one array."""
    return np.frombuffer(b"".join([one.packed(name) for one in inferences]))


def latencies_ms(inferences: Iterable[Inferences]) -> Array:
    """Total of the measured phases of each call, of many episodes as one array."""
    found = list(inferences)
    phases = [[one.packed(name) for one in found] for name in _PHASES]
    sizes = [max(map(len, parts)) for parts in zip(*phases, strict=True)]
    first, *others = (
        np.frombuffer(b"".join([part or bytes(size) for part, size in zip(parts, sizes, strict=True)]))
        for parts in phases
    )
    return sum(others, first)
