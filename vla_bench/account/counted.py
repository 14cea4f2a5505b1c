"""A run, counted: everything that tables and figures are made from, and nothing that is drawn or printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vla_bench.account import cells as of
from vla_bench.account.boards import Board, make_board
from vla_bench.account.cells import Cell, Outcomes
from vla_bench.account.pairs import Pair, best, pairs
from vla_bench.run.records import Record, Run, RunHeader
from vla_bench.types import Arm


@dataclass(frozen=True, slots=True)
class Place:
    """A suite under a variation.

    Attributes:
        variation: "" is the unvaried suite.
        outcomes: What the records of each arm that is run on the suite came to.
        cells: One an arm.
        tasks: The same by task, in the order of the suite; a task's certificate stands below its arms.
        pairs: Every two arms.
        best: The arm that is significantly better than every other one.
    """

    suite: str
    variation: str
    outcomes: Mapping[Arm, Outcomes]
    cells: tuple[Cell, ...]
    tasks: Mapping[str, tuple[Cell, ...]]
    pairs: tuple[Pair, ...]
    best: Arm | None

    @property
    def name(self) -> str:
        """Suite and variation."""
        return of.varied(self.suite, self.variation)


@dataclass(frozen=True, slots=True)
class Counted:
    """The records of a run, sorted out.

    Attributes:
        arms: In the order of the study.
        confidence: Of all intervals.
        places: Suites in the order of the study, then those of single tasks; variations in theirs.
        boards: One a suite.
    """

    header: RunHeader
    arms: tuple[Arm, ...]
    confidence: float
    places: tuple[Place, ...]
    boards: tuple[Board, ...]

    @property
    def unvaried(self) -> tuple[Place, ...]:
        """Places without a variation."""
        return tuple(place for place in self.places if not place.variation)

    @property
    def varied(self) -> tuple[Place, ...]:
        """Places with one."""
        return tuple(place for place in self.places if place.variation)

    def records(self, arm: Arm, *, varied: bool = True) -> list[Record]:
        """The records of an arm that count, also those under variations or not."""
        places = self.places if varied else self.unvaried
        own = (place.outcomes.get(arm) for place in places)
        return [record for outcomes in own if outcomes for record in outcomes.counted.values()]


def count(run: Run) -> Counted:
    """Sort out the records of a run: each is counted, dropped with its pair, or an error.

    Those that a run which stops when it has decided did not need are left out: they came by chance of timing.
    """
    surplus = set(run.header.surplus)
    run = replace(run, records=tuple(r for r in run.records if r.key not in surplus)) if surplus else run
    confidence = float(run.header.study["statistics"]["confidence"])
    arms = of.arms_of(run)
    weights = {
        (loaded.policy, loaded.report.precision): loaded.report.bytes
        for session in run.header.sessions
        for loaded in session.loaded
    }
    places: list[Place] = []
    boards: list[Board] = []
    for suite, variations in _by_place(run).items():
        outcomes: dict[str, dict[str, dict[Arm, Outcomes]]] = {}
        own = of.arms_on(run, suite, arms)
        for variation, records in variations.items():
            found = of.outcomes(records, own)
            outcomes[variation] = of.by_task(found)
            places.append(_place(run, suite, variation, found, outcomes[variation], confidence, weights))
        boards.append(make_board(suite, own, outcomes, run.header.certificates))
    return Counted(run.header, arms, confidence, tuple(places), tuple(boards))


def _by_place(run: Run) -> dict[str, dict[str, list[Record]]]:
    """Records by suite and variation.

    A varied task is another task: its episodes never enter the rate of the unchanged one.
    """
    suites = [*run.header.study.get("suites", ()), *(record.suite for record in run.records)]
    order = {suite: place for place, suite in enumerate(dict.fromkeys(suites))}
    found: dict[str, dict[str, list[Record]]] = {}
    for record in sorted(run.records, key=lambda record: (order[record.suite], record.variation)):
        found.setdefault(record.suite, {}).setdefault(record.variation, []).append(record)
    return found


def _place(
    run: Run,
    suite: str,
    variation: str,
    found: dict[Arm, Outcomes],
    by_task: dict[str, dict[Arm, Outcomes]],
    confidence: float,
    weights: Mapping[tuple[str, str], int],
) -> Place:
    whole, parts = of.summarise(suite, variation, found, by_task, confidence, weights)
    compared = pairs(of.varied(suite, variation), found, confidence)
    tasks = {
        task: (*own, *_certificate(run.header, task, variation, confidence)) for task, own in parts.items()
    }
    return Place(suite, variation, found, tuple(whole), tasks, tuple(compared), best(compared, confidence))


def _certificate(header: RunHeader, task: str, variation: str, confidence: float) -> Sequence[Cell]:
    known = header.certificates.get(f"{task}|{variation}")
    return [of.certified(of.varied(task, variation), known, confidence)] if known else []
