"""Statistics of a data set under the names that Octo gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_bench.learn.action_statistics import write_statistics
from vla_bench.policy.octo.scaling import Statistics

_NAMES = {"q01": "p01", "q99": "p99"}


def octo_tables(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Tables by the name of their data set, with `p01` and `p99` beside `q01` and `q99`."""
    return {
        key: {kind: _named(table) for kind, table in tables.items()} for key, tables in statistics.items()
    }


def write_tables(folder: Path, statistics: Mapping[str, Any]) -> Statistics:
    """Write them into `folder`; returns what the policy reads there."""
    tables = octo_tables(statistics)
    return Statistics(tables, write_statistics(folder, tables))


def _named(table: Any) -> Any:
    if not isinstance(table, Mapping):  # a count
        return table
    return {**table, **{ours: table[name] for name, ours in _NAMES.items() if name in table}}
