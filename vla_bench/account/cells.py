"""From records to the numbers of a table: which records count, and what each arm reached on a suite or task.

An error is no failure: an episode that ended in an error for one arm is dropped from all arms of its suite,
so that every arm is judged on the same episodes. An arm that only ever met errors there takes no part, or
nothing would be left of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from vla_bench.account.statistics import (
    Interval,
    error_bounds,
    wilson,
)
from vla_bench.run.records import ExpertRate, Record, Run, latencies_ms
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
        p50_ms, p95_ms: Median and 95th percentile of what an inference computed, over all of them.
        command_hz: Fresh commands per second of task time.
        weights_bytes: Memory of the policy's parameters, where they were loaded.
        peak_bytes: The most device memory that any episode saw.
    """

    place: str
    arm: Arm
    n: int
    successes: int
    errors: int
    dropped: int
    interval: Interval | None
    bounds: Interval | None
    p50_ms: float | None = None
    p95_ms: float | None = None
    command_hz: float | None = None
    weights_bytes: int | None = None
    peak_bytes: int | None = None

    @property
    def policy_hz(self) -> float | None:
        """1 / median latency; None where nothing was computed or measured."""
        return 1000.0 / self.p50_ms if self.p50_ms else None

    @property
    def rate(self) -> float | None:
        """Share of successes; None where nothing counts."""
        return self.successes / self.n if self.n else None


# What makes an arm and an episode, without making them: records are many.
_ARM: Callable[[Record | Arm], Any] = attrgetter(*(column.name for column in fields(Arm)))
_START = attrgetter(*(column.name for column in fields(Episode)))


def arms_of(run: Run) -> tuple[Arm, ...]:
    """The arms of a run: those of the study, in its order, then others that there are records of."""
    recorded = dict.fromkeys(map(_ARM, run.records))
    return tuple(dict.fromkeys([*run.header.arms, *(Arm(*arm) for arm in recorded)]))


def arms_on(run: Run, suite: str, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Those of some arms that take part on a suite: where a study limits arms to suites, those that ran."""
    if not any(table.get("suites") for table in run.header.study.get("arm", ())):
        return tuple(arms)
    recorded = {_ARM(record) for record in run.records if record.suite == suite}
    return tuple(arm for arm in arms if _ARM(arm) in recorded)


def outcomes(records: Iterable[Record], arms: Sequence[Arm]) -> dict[Arm, Outcomes]:
    """Sort the records of one suite by arm, and drop the pairs that an error broke."""
    by_arm: dict[Arm, list[Record]] = {arm: [] for arm in arms}
    for arm, own in _grouped(records, _ARM).items():
        by_arm.setdefault(Arm(*arm), []).extend(own)
    taking_part = [own for own in by_arm.values() if any(record.status != "error" for record in own)]
    broken = {_START(record) for record in chain(*taking_part) if record.status == "error"}
    episodes: dict[Any, Episode] = {}  # one for all arms
    found = {arm: Outcomes() for arm in by_arm}
    for arm, own in by_arm.items():
        for record in own:
            start = _START(record)
            if record.status == "error":
                found[arm].errors.append(record)
            elif start in broken:
                found[arm].dropped.append(record)
            else:
                episode = episodes.get(start) or episodes.setdefault(start, record.episode)
                found[arm].counted[episode] = record
    return found


def _grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    found: defaultdict[Any, list[Record]] = defaultdict(list)
    for record in records:
        found[key(record)].append(record)
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
    weights_bytes: Mapping[tuple[str, str], int] | None = None,
) -> tuple[list[Cell], dict[str, list[Cell]]]:
    """Cells of a suite under a variation by arm, and of its tasks (see `by_task`) by task and arm.

    `weights_bytes` is by policy and precision, of those whose parameters were weighed.
    """
    weighed = weights_bytes or {}
    computed_ms = {
        (task, arm): latencies_ms(record.inferences for record in own.counted.values())
        for task, arms in tasks.items()
        for arm, own in arms.items()
    }
    of_tasks = {
        task: [
            _cell(varied(task, variation), arm, own, computed_ms[task, arm], confidence, weighed)
            for arm, own in arms.items()
        ]
        for task, arms in tasks.items()
    }
    of_suite = [
        _cell(
            varied(suite, variation),
            arm,
            own,
            np.concatenate([np.zeros(0), *(computed_ms[task, arm] for task in tasks)]),
            confidence,
            weighed,
        )
        for arm, own in found.items()
    ]
    return of_suite, of_tasks


def certified(place: str, certificate: ExpertRate, confidence: float) -> Cell:
    """The reference's cell of a task."""
    n, successes = certificate.n, certificate.successes
    return Cell(
        place=place, arm=REFERENCE, n=n, successes=successes, errors=0, dropped=0,
        interval=wilson(successes, n, confidence), bounds=None,
    )  # fmt: skip


def _cell(
    place: str,
    arm: Arm,
    own: Outcomes,
    computed_ms: Array,
    confidence: float,
    weights_bytes: Mapping[tuple[str, str], int],
) -> Cell:
    counted = own.counted.values()
    successes = sum(record.status == "success" for record in counted)
    sound_successes = successes + sum(record.status == "success" for record in own.dropped)
    return Cell(
        place=place, arm=arm, n=len(counted), successes=successes,
        errors=len(own.errors), dropped=len(own.dropped),
        interval=wilson(successes, len(counted), confidence),
        bounds=error_bounds(sound_successes, len(counted) + len(own.dropped), len(own.errors)),
        p50_ms=_percentile(computed_ms, 50), p95_ms=_percentile(computed_ms, 95),
        command_hz=_command_hz(counted),
        weights_bytes=weights_bytes.get((arm.policy, arm.precision)),
        peak_bytes=max((r.peak_device_memory_bytes or 0 for r in counted), default=0) or None,
    )  # fmt: skip


def _percentile(values: Array, q: float) -> float | None:
    return float(np.percentile(values, q)) if values.size else None


def _command_hz(records: Iterable[Record]) -> float | None:
    timed = [(r.command_hz * r.task_s, r.task_s) for r in records if r.command_hz is not None]
    total_s = sum(seconds for _, seconds in timed)
    return sum(commands for commands, _ in timed) / total_s if total_s > 0 else None
