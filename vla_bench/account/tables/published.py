"""The numbers of published tasks beside ours: `data/published.csv`, one row a task and policy.

A number there belongs to the task as it was published, on a real robot; a task of ours mirrors it in another
world. The rows of the file are in the order of the paper.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_bench.account.boards import Board, Tally, added
from vla_bench.account.cells import REFERENCE
from vla_bench.account.counted import Counted
from vla_bench.account.statistics import wilson
from vla_bench.account.tables.axes import cell_text
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    Number,
    Table,
    about_the_reference,
    arm_label,
    arm_numbers,
    constant_columns,
    ends,
    marks_said,
    shown_columns,
)
from vla_bench.types import TASK_AXES, Arm

_FILE = Path(__file__).parents[1] / "data" / "published.csv"


@dataclass(frozen=True, slots=True)
class PublishedTask:
    """A task of the paper: successes of `n` trials by policy; half a success is possible.

    `axis` is that of its suite, or else the group that the paper tells apart, such as `narrow ood`.
    """

    suite: str
    name: str
    title: str
    axis: str
    n: int
    successes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Row:
    """A task of the paper, or all of them, with what our arms reached on the tasks that mirror it."""

    axis: str
    title: str
    tallies: Mapping[Arm, Tally]
    n: int
    successes: Mapping[str, float]


@functools.cache
def published_tasks() -> tuple[PublishedTask, ...]:
    """All published tasks that a suite of ours mirrors."""
    found: dict[tuple[str, str], PublishedTask] = {}
    with _FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["suite"], row["published"])
            task = found.get(key) or PublishedTask(*key, row["title"], row["axis"], int(row["n"]), {})
            successes = {**task.successes, row["policy"]: float(row["successes"])}
            found[key] = PublishedTask(*key, task.title, task.axis, task.n, successes)
    return tuple(found.values())


def tables(counted: Counted) -> Iterator[Table]:
    """Of every suite that mirrors published tasks."""
    for board in counted.boards:
        if table := published_table(board, counted.header.published, counted.confidence):
            yield table


def published_table(board: Board, mirrored: Mapping[str, str], confidence: float) -> Table | None:
    """Our rates on the unvaried suite beside the published ones; None where it mirrors nothing that ran.

    `mirrored` is task id → the published task's name, as a header has it; two prompts of one scene share one.
    """
    rows = _rows(board, mirrored)
    if not rows:
        return None
    groups = {row.axis: [other for other in rows if other.axis == row.axis] for row in rows}
    column = "axis" if groups.keys() <= set(TASK_AXES) else "group"
    if column == "group":
        rows += [_all(own, group) for group, own in groups.items()]
    rows.append(_all([row for own in groups.values() for row in own], "all"))
    arms = [*board.arms, *([REFERENCE] if any(row.tallies[REFERENCE].n for row in rows) else [])]
    shown, policies = shown_columns(arms), list(rows[0].successes)
    labels = [arm_label(arm, shown) for arm in arms]
    sentences = [
        f"{rows[-1].title} of the paper, on {board.suite}: rate in %, [{100 * confidence:g} % Wilson "
        "interval], successes/episodes of the unvaried task, errors left out; two prompts of one scene are "
        f"one row, as in the paper{constant_columns(arms, shown)}.",
        "The last row pools episodes; of ours, a pair of prompts has those of both.",
        "Real: the paper's successes of trials on a real robot, half credits included, read at second hand "
        "(their sums are the means that the paper prints).",
        "It is another world: our tasks mirror the paper's in simulation; robot, objects and cameras differ, "
        "and a difference between the two sides says nothing about a policy.",
        about_the_reference(arms),
        marks_said() if any(tally.errors for row in rows for tally in row.tallies.values()) else "",
    ]
    return Table(
        name=f"published_{board.suite}", title=f"The paper's tasks, mirrored in {board.suite}",
        caption=tuple(filter(None, sentences)),
        header=(column, "task", *labels, *(f"{policy} (real)" for policy in policies)),
        rows=tuple(
            (
                row.axis, row.title, *(cell_text(row.tallies[arm], confidence) for arm in arms),
                *(f"{row.successes[policy]:g}/{row.n}" for policy in policies),
            )
            for row in rows
        ),
        text_columns=2, bold=frozenset(),
        numbers_header=(
            column, "task", "world", "policy", *list(ARM_COLUMNS)[1:],
            "successes", "n", "rate", "low", "high",
        ),
        numbers=tuple(numbers for row in rows for numbers in _numbers(row, arms, confidence)),
    )  # fmt: skip


def _rows(board: Board, mirrored: Mapping[str, str]) -> list[_Row]:
    ours: dict[str, list[str]] = {}
    for task in board.tasks([""]):
        ours.setdefault(mirrored.get(task, ""), []).append(task)
    return [
        _Row(
            task.axis,
            task.title,
            {arm: board.total(arm, "", ours[task.name]) for arm in (*board.arms, REFERENCE)},
            task.n,
            task.successes,
        )
        for task in published_tasks()
        if task.suite == board.suite and task.name in ours
    ]


def _all(rows: Sequence[_Row], label: str) -> _Row:
    """Some rows together; of the reference only where every row has it."""
    tallies = {arm: added(row.tallies[arm] for row in rows) for arm in rows[0].tallies}
    if not all(row.tallies[REFERENCE].n for row in rows):
        tallies[REFERENCE] = Tally()
    successes = {policy: sum(row.successes[policy] for row in rows) for policy in rows[0].successes}
    return _Row(
        label, f"{len(rows)} task{'s' * (len(rows) != 1)}", tallies, sum(row.n for row in rows), successes
    )


def _numbers(row: _Row, arms: Sequence[Arm], confidence: float) -> list[tuple[Number, ...]]:
    """Ours, then the paper's, a line each; half credits have no interval."""
    place = (row.axis, row.title)
    ours = [
        (
            *place, "simulation", *arm_numbers(arm), tally.successes, tally.n, tally.rate,
            *ends(wilson(tally.successes, tally.n, confidence)),
        )
        for arm, tally in ((arm, row.tallies[arm]) for arm in arms)
    ]  # fmt: skip
    theirs = [
        (*place, "published", policy, None, None, None, None, successes, row.n, successes / row.n, None, None)
        for policy, successes in row.successes.items()
    ]
    return [*ours, *theirs]
