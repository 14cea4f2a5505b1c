"""What `vla-bench list` prints: rows of plain values, read from files alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vla_bench import catalog
from vla_bench.config import read_toml
from vla_bench.errors import MissingDataError, UnknownNameError
from vla_bench.types import TASK_AXES, Budget

Row = dict[str, Any]


def suites() -> list[Row]:
    """One row a suite; `data` says whether its files are here."""
    rows = []
    for name, suite in catalog.suites().items():
        try:
            count: int | None = len(suite.stems())
            here = all(folder.is_dir() for folder in suite.places)
        except MissingDataError:
            count, here = len(suite.tasks) if suite.tasks else None, False
        rows.append(
            {
                "suite": name,
                "tasks": count,
                "episodes": suite.episodes,
                "budget": str(Budget(suite.budget.steps, suite.budget.time_s)),
                "period_s": suite.policy_period_s,
                "split": "+".join(suite.splits),
                "data": "here" if here else "vla-bench assets libero" if suite.needs_libero else "missing",
                "title": suite.title,
            }
        )
    return rows


def tasks(names: Sequence[str], axes: Sequence[str]) -> list[Row]:
    """One row a task of the named suites (default: all) that test one of the axes (default: any)."""
    for axis in axes:
        if axis not in TASK_AXES:
            raise UnknownNameError("task axis", axis, TASK_AXES)
    chosen = [catalog.suite(name) for name in names] or list(catalog.suites().values())
    return [
        {
            "task": f"{suite.name}/{stem}",
            "index": index,
            "axis": part.axis,
            "group": part.group,
            "split": part.split,
        }
        for suite in chosen
        for index, (stem, part) in enumerate(suite.divided().items())
        if not axes or part.axis in axes
    ]


def factors(axes: Sequence[str], *, wide: bool = False) -> list[Row]:
    """One row a factor of one of the axes (default: any); `wide` tells all, else one line each."""
    from vla_bench.axes.factors import factors as all_factors

    for axis in axes:
        if axis not in TASK_AXES:
            raise UnknownNameError("task axis", axis, TASK_AXES)
    chosen = [factor for factor in all_factors().values() if not axes or factor.axis in axes]
    if wide:
        keys = {"source", "function", "name"}
        return [{"factor": factor.id, **factor.model_dump(mode="json", exclude=keys)} for factor in chosen]
    return [
        {
            "factor": factor.id,
            "title": factor.title,
            "levels": "; ".join(
                f"{name}: {', '.join(f'{v:g}' for v in q.levels)} ({q.unit})"
                for name, q in factor.quantities.items()
            ),
        }
        for factor in chosen
    ]


def certificates(names: Sequence[str]) -> list[Row]:
    """One row a certificate of the named suites (default: all that have some)."""
    from vla_bench.axes.certificates import certificates as of_suite

    rows = [row for name in names or catalog.suites() for row in of_suite(catalog.suite(name).name).values()]
    return [{**dataclasses.asdict(row), "certified": row.certified} for row in rows]


def policies() -> list[Row]:
    """One row a policy card."""
    rows = []
    for name in catalog.policy_files():
        from vla_bench.policy.cards import read_card

        card = read_card(name)
        rows.append(
            {
                "policy": name if card.argument is None else f"{name}:{card.argument.upper()}",
                "family": card.family,
                "precisions": " ".join(card.precisions),
                "licence": card.licence,
                "title": card.title,
            }
        )
    return rows


def latencies() -> list[Row]:
    """One row a latency that has a name: of a published model, of a measured trace, or of a roofline."""
    from vla_bench.run.latency.rooflines import rooflines

    models = {name: read_toml(path) for name, path in catalog.latency_files(".toml").items()}
    published = [
        {
            "latency": f"model:{name}",
            "ms": f"{table.get('shift_ms', 0.0) + table.get('median_ms', 0.0):.1f}",
            "certainty": table.get("certainty", ""),
            "title": table.get("title", ""),
        }
        for name, table in models.items()
    ]
    traces = [
        {"latency": f"trace:{name}", "ms": "", "certainty": "measured", "title": str(path)}
        for name, path in catalog.latency_files(".parquet").items()
    ]
    ideal = [
        {"latency": f"model:{name}", "ms": f"{ms:.1f}", "certainty": "computed", "title": title}
        for name, title, ms in rooflines()
    ]
    return published + traces + ideal


def studies() -> list[Row]:
    """One row a study."""
    return [
        {"study": name, "title": read_toml(path).get("title", ""), "file": str(path)}
        for name, path in catalog.studies().items()
    ]
