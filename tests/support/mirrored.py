"""What the tests of suites that mirror a paper's tasks share."""

from __future__ import annotations

from vla_bench.account.tables.published import PublishedTask, published_tasks
from vla_bench.bddl import read_problem
from vla_bench.catalog import Suite
from vla_bench.types import Task


def published_numbers(suite: str) -> dict[str, PublishedTask]:
    """Published task → its row, for what a suite mirrors."""
    return {task.name: task for task in published_tasks() if task.suite == suite}


def check_departures(suite: Suite, task: Task) -> None:
    """A task departs from one of its suite's in distribution, if it is out of it."""
    departure = read_problem(task.bddl).departure
    if task.split == "id":
        assert departure is None
        return
    assert departure is not None
    assert suite.task(departure.base).split == "id"
    assert all(departure.changes.values())
