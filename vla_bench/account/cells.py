"""From records to the numbers of a table: which records count, and what each arm reached on a suite or task.

An error is no failure: an episode that ended in an error for one arm is dropped from all arms of its suite,
so that every arm is judged on the same episodes. An arm that only ever met errors there takes no part, or
nothing would be left of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations

import numpy as np

from vla_bench.account.statistics import (
    Interval,
    PairedDifference,
    error_bounds,
    holm,
    paired_difference,
    wilson,
)
from vla_bench.run.records import ExpertRate, Record
from vla_bench.types import Arm, Array, Episode

# Stands beside the arms; it was not run here, so that it has neither precision nor pacing.
REFERENCE = Arm("scripted expert (certificate)", "-", "-", "-")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Records of one arm on a suite or task: those that count, those dropped with their pair, and errors."""

    counted: dict[Episode, Record] = field(default_factory=dict)
    dropped: list[Record] = field(default_factory=list)
    errors: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cell:
    """What one arm reached on one suite or task.

    Attributes:
        place: Suite name or task id.
        n, successes: Of the records that count.
        errors: Episodes of this arm that ended in an error.
        dropped: Sound episodes of this arm that another arm's error took out.
        interval: Wilson interval of the rate.
        bounds: Rate of all of this arm's episodes with errors as failures, and as successes.
        policy_hz: 1 / median latency over all inferences.
        command_hz: Fresh commands per second of task time.
    """

    place: str
    arm: Arm
    n: int
    successes: int
    errors: int
    dropped: int
    interval: Interval | None
    bounds: Interval | None
    policy_hz: float | None
    command_hz: float | None

    @property
    def rate(self) -> float | None:
        """Share of successes; None where nothing counts."""
        return self.successes / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms compared on a suite; `p_holm` is adjusted for all comparisons of that suite."""

    place: str
    first: Arm
    second: Arm
    result: PairedDifference | None
    p_holm: float | None


def outcomes(records: Iterable[Record], arms: Sequence[Arm]) -> dict[Arm, Outcomes]:
    """Sort the records of one suite by arm, and drop the pairs that an error broke."""
    by_arm: dict[Arm, list[Record]] = {arm: [] for arm in arms}
    for record in records:
        by_arm.setdefault(record.arm, []).append(record)
    taking_part = [own for own in by_arm.values() if any(record.status != "error" for record in own)]
    broken = {record.episode for record in chain(*taking_part) if record.status == "error"}
    found = {arm: Outcomes() for arm in by_arm}
    for arm, own in by_arm.items():
        for record in own:
            episode = record.episode
            if record.status == "error":
                found[arm].errors.append(record)
            elif episode in broken:
                found[arm].dropped.append(record)
            else:
                found[arm].counted[episode] = record
    return found


def varied(name: str, variation: str) -> str:
    """The name of a suite or task, with the variation that it was run under."""
    return f"{name} with {variation}" if variation else name


def by_task(found: dict[Arm, Outcomes]) -> dict[str, dict[Arm, Outcomes]]:
    """The same outcomes, task by task, in the order of the suite."""
    order: dict[str, int] = {}
    tasks: defaultdict[str, dict[Arm, Outcomes]] = defaultdict(lambda: {arm: Outcomes() for arm in found})
    for arm, own in found.items():
        for record in chain(own.counted.values(), own.dropped, own.errors):
            order[record.task_id] = record.task_index
        for episode, record in own.counted.items():
            tasks[record.task_id][arm].counted[episode] = record
        for record in own.dropped:
            tasks[record.task_id][arm].dropped.append(record)
        for record in own.errors:
            tasks[record.task_id][arm].errors.append(record)
    return {task: tasks[task] for task in sorted(tasks, key=lambda task: (order[task], task))}


def summarise(
    suite: str,
    variation: str,
    found: dict[Arm, Outcomes],
    tasks: dict[str, dict[Arm, Outcomes]],
    confidence: float,
) -> tuple[list[Cell], dict[str, list[Cell]]]:
    """Cells of a suite under a variation by arm, and of its tasks (see `by_task`) by task and arm."""
    latencies_ms = {
        (task, arm): _latencies_ms(own.counted.values())
        for task, arms in tasks.items()
        for arm, own in arms.items()
    }
    of_tasks = {
        task: [
            _cell(varied(task, variation), arm, own, latencies_ms[task, arm], confidence)
            for arm, own in arms.items()
        ]
        for task, arms in tasks.items()
    }
    of_suite = [
        _cell(
            varied(suite, variation),
            arm,
            own,
            np.concatenate([np.zeros(0), *(latencies_ms[task, arm] for task in tasks)]),
            confidence,
        )
        for arm, own in found.items()
    ]
    return of_suite, of_tasks


def certified(place: str, certificate: ExpertRate, confidence: float) -> Cell:
    """The reference's cell of a task."""
    n, successes = certificate.n, certificate.successes
    return Cell(
        place=place, arm=REFERENCE, n=n, successes=successes, errors=0, dropped=0,
        interval=wilson(successes, n, confidence), bounds=None, policy_hz=None, command_hz=None,
    )  # fmt: skip


def _cell(place: str, arm: Arm, own: Outcomes, latencies_ms: Array, confidence: float) -> Cell:
    counted = own.counted.values()
    successes = sum(record.status == "success" for record in counted)
    sound_successes = successes + sum(record.status == "success" for record in own.dropped)
    return Cell(
        place=place, arm=arm, n=len(counted), successes=successes,
        errors=len(own.errors), dropped=len(own.dropped),
        interval=wilson(successes, len(counted), confidence),
        bounds=error_bounds(sound_successes, len(counted) + len(own.dropped), len(own.errors)),
        policy_hz=_policy_hz(latencies_ms), command_hz=_command_hz(counted),
    )  # fmt: skip


def pairs(place: str, found: dict[Arm, Outcomes]) -> list[Pair]:
    """Compare every two arms of a suite on the episodes that count for both."""
    arms = list(combinations(found, 2))
    results = [_compare(found[first], found[second]) for first, second in arms]
    adjusted = iter(holm([result.p_value for result in results if result is not None]))
    return [
        Pair(place, first, second, result, None if result is None else next(adjusted))
        for (first, second), result in zip(arms, results, strict=True)
    ]


def best(compared: Sequence[Pair], confidence: float) -> Arm | None:
    """The arm that is significantly better than every other one, if there is one."""
    wins: defaultdict[Arm, int] = defaultdict(int)
    arms: set[Arm] = set()
    for pair in compared:
        if pair.result is None or pair.p_holm is None:
            continue
        arms |= {pair.first, pair.second}
        if pair.p_holm < 1 - confidence:
            wins[pair.first if pair.result.difference > 0 else pair.second] += 1
    return next((arm for arm, count in wins.items() if count == len(arms) - 1), None)


def _compare(first: Outcomes, second: Outcomes) -> PairedDifference | None:
    shared = [episode for episode in first.counted if episode in second.counted]
    return paired_difference(
        [first.counted[episode].status == "success" for episode in shared],
        [second.counted[episode].status == "success" for episode in shared],
    )


def _latencies_ms(records: Iterable[Record]) -> Array:
    return np.concatenate([np.zeros(0), *(record.inferences.latencies_ms() for record in records)])


def _policy_hz(latencies_ms: Array) -> float | None:
    typical_ms = float(np.median(latencies_ms)) if latencies_ms.size else 0.0
    return 1000.0 / typical_ms if typical_ms > 0 else None


def _command_hz(records: Iterable[Record]) -> float | None:
    timed = [(r.command_hz * r.task_s, r.task_s) for r in records if r.command_hz is not None]
    total_s = sum(seconds for _, seconds in timed)
    return sum(commands for commands, _ in timed) / total_s if total_s > 0 else None
