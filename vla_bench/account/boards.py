"""Counts that add up: of a suite by variation, task and arm, with the certified expert beside the arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from vla_bench.account.cells import REFERENCE, Outcomes
from vla_bench.run.records import ExpertRate, Record
from vla_bench.types import TASK_AXES, Arm, TaskAxis


@dataclass(frozen=True, slots=True)
class Tally:
    """What an arm reached on some tasks: successes and episodes that count, and those that do not."""

    successes: int = 0
    n: int = 0
    errors: int = 0
    dropped: int = 0
    tasks: frozenset[str] = frozenset()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.successes + other.successes,
            self.n + other.n,
            self.errors + other.errors,
            self.dropped + other.dropped,
            self.tasks | other.tasks,
        )

    @property
    def rate(self) -> float | None:
        """Share of successes; None where nothing counts."""
        return self.successes / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Board:
    """The outcomes of a suite and their counts.

    Attributes:
        arms: In the order of the study, without the reference.
        axes: Task → the axis that it tests, in the order of the suite.
        groups: Task → its group and split in words, such as `narrow ood`.
        outcomes: Variation → task → arm → outcomes; "" is the unvaried suite.
        counts: The same as tallies, with those of `REFERENCE` where there is a certificate.
    """

    suite: str
    arms: tuple[Arm, ...]
    axes: Mapping[str, TaskAxis | None]
    groups: Mapping[str, str]
    outcomes: Mapping[str, Mapping[str, Mapping[Arm, Outcomes]]]
    counts: Mapping[str, Mapping[str, Mapping[Arm, Tally]]]

    def tasks(self, variations: Iterable[str]) -> tuple[str, ...]:
        """The tasks that were run under any of some variations, in the order of the suite."""
        ran = {task for variation in variations for task in self.counts.get(variation, ())}
        return tuple(task for task in self.axes if task in ran)

    def total(self, arm: Arm, variation: str, tasks: Iterable[str]) -> Tally:
        """What an arm reached on those of some tasks that were run under a variation.

        The reference counts only where it has each of them, or it would speak of other tasks than the arms.
        """
        ran = self.counts.get(variation, {})
        tallies = [ran[task].get(arm) for task in tasks if task in ran]
        if arm == REFERENCE and None in tallies:
            return Tally()
        return added(tally for tally in tallies if tally is not None)

    def single(self) -> dict[str, dict[int, str]]:
        """Factor → level → variation, of the variations that are one factor, in canonical order."""
        found: dict[str, dict[int, str]] = {}
        for variation in self.counts:
            factors = factors_of(variation)
            if len(factors) == 1:
                found.setdefault(factors[0][0], {})[factors[0][1]] = variation
        return {factor: dict(sorted(found[factor].items())) for factor in sorted(found, key=_canonical)}

    def compositions(self) -> tuple[str, ...]:
        """The variations that join several factors."""
        return tuple(sorted(variation for variation in self.counts if len(factors_of(variation)) > 1))


def make_board(
    suite: str,
    arms: Iterable[Arm],
    outcomes: Mapping[str, Mapping[str, Mapping[Arm, Outcomes]]],
    certificates: Mapping[str, ExpertRate],
) -> Board:
    """Count the outcomes of a suite, by variation, task and arm; certificates as a header holds them."""
    order: dict[str, tuple[int, TaskAxis | None, str]] = {}
    counts: dict[str, dict[str, dict[Arm, Tally]]] = {}
    for variation, tasks in outcomes.items():
        counts[variation] = {}
        for task, by_arm in tasks.items():
            counts[variation][task] = {arm: _tally(task, own) for arm, own in by_arm.items()}
            record = next(chain.from_iterable(map(_records, by_arm.values())))
            group = f"{record.task_group} {record.split}".strip()
            order[task] = (record.task_index, record.task_axis, group)
            if certificate := certificates.get(f"{task}|{variation}"):
                counts[variation][task][REFERENCE] = Tally(
                    certificate.successes, certificate.n, tasks=frozenset([task])
                )
    tasks_in_order = sorted(order, key=lambda task: (order[task][0], task))
    axes: dict[str, TaskAxis | None] = {task: order[task][1] for task in tasks_in_order}
    groups = {task: order[task][2] for task in tasks_in_order}
    return Board(suite, tuple(arms), axes, groups, outcomes, counts)


def added(tallies: Iterable[Tally]) -> Tally:
    """The sum of some tallies."""
    return sum(tallies, Tally())


def axis_of(factor: str) -> str:
    """The axis of a factor."""
    return factor.partition(".")[0]


def factors_of(variation: str) -> tuple[tuple[str, int], ...]:
    """The factors of a variation with their levels: `visual.fog@3` is (("visual.fog", 3),)."""
    parts = (part.partition("@") for part in variation.split("+") if part)
    return tuple((factor, int(level)) for factor, _, level in parts)


def _canonical(factor: str) -> tuple[int, str]:
    """Axis by axis, then by name, as variations are written."""
    axis = axis_of(factor)
    return (TASK_AXES.index(axis) if axis in TASK_AXES else len(TASK_AXES), factor)


def _records(own: Outcomes) -> Iterable[Record]:
    return chain(own.counted.values(), own.dropped, own.errors)


def _tally(task: str, own: Outcomes) -> Tally:
    successes = sum(record.status == "success" for record in own.counted.values())
    ran = bool(own.counted or own.errors or own.dropped)
    tasks = frozenset([task] if ran else [])
    return Tally(successes, len(own.counted), len(own.errors), len(own.dropped), tasks)
