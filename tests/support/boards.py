"""Boards of counts for tests: from strings of one letter an episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from support.records import make_record
from vla_bench.account.boards import Board, make_board
from vla_bench.account.cells import by_task, outcomes
from vla_bench.run.records import ExpertRate, Record

STATUS = {"s": "success", "f": "failure", "e": "error"}
AXES = {"t0": "visual", "t1": "visual", "t2": "motion"}


def records_of(
    variation: str = "",
    tasks: Iterable[str] = tuple(AXES),
    policy: str = "p",
    letters: str = "sf",
    suite: str = "s",
) -> list[Record]:
    """One episode a letter on each task: s, f or e."""
    return [
        make_record(
            STATUS[letter], policy=policy, suite=suite, task=task, index=i, variation=variation,
            task_axis=AXES.get(task),
        )
        for task in tasks for i, letter in enumerate(letters)
    ]  # fmt: skip


def suite_of(table: Mapping[str, str]) -> list[Record]:
    """Records from {policy: string of one letter an episode}: s, f, e, or a blank for not yet run."""
    return [
        make_record(STATUS[letter], policy=policy, index=i)
        for policy, letters in table.items()
        for i, letter in enumerate(letters)
        if letter != " "
    ]


def board_of(
    *groups: Iterable[Record], certificates: dict[str, ExpertRate] | None = None, suite: str = "s"
) -> Board:
    """The board of some records."""
    made = [record for group in groups for record in group]
    arms = tuple(dict.fromkeys(record.arm for record in made))
    by_variation: dict[str, list[Record]] = {}
    for record in made:
        by_variation.setdefault(record.variation, []).append(record)
    found = {variation: by_task(outcomes(own, arms)) for variation, own in by_variation.items()}
    return make_board(suite, arms, found, certificates or {})


def certificate(
    tasks: Iterable[str], variation: str = "", n: int = 10, successes: int = 9, suite: str = "s"
) -> dict[str, ExpertRate]:
    """The same certificate for some tasks, as a header holds it."""
    return {f"{suite}/{task}|{variation}": ExpertRate(n=n, successes=successes) for task in tasks}
