"""Which tables and curves a run has: every number that a report shows is computed from here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vla_bench.account import cells as of
from vla_bench.account import rollups
from vla_bench.account.boards import Board, make_board
from vla_bench.account.cells import Cell, Outcomes, Pair
from vla_bench.account.rollups import Rollup
from vla_bench.account.tables import Table, axes, differences, rates
from vla_bench.account.tables.published import published_table
from vla_bench.run.records import Record, Run
from vla_bench.types import Arm


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a report shows.

    Attributes:
        tables: The most condensed first.
        curves: Success by factor and level, to be drawn; empty where nothing was varied.
        confidence: Of all intervals.
    """

    tables: tuple[Table, ...]
    curves: Rollup
    confidence: float


@dataclass(slots=True)
class _Compared:
    """Cells and pairs of some places, collected suite by suite."""

    suites: list[Cell] = field(default_factory=list)
    tasks: list[Cell] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    best: dict[str, Arm] = field(default_factory=dict)


def assemble(run: Run) -> Assembled:
    """Count the records of a run and make its tables."""
    confidence = float(run.header.study["statistics"]["confidence"])
    arms = tuple(dict.fromkeys([*run.header.arms, *(record.arm for record in run.records)]))
    unvaried, varied = _Compared(), _Compared()
    boards: list[Board] = []
    for suite, variations in _by_place(run).items():
        outcomes: dict[str, dict[str, dict[Arm, Outcomes]]] = {}
        for variation, records in variations.items():
            found = of.outcomes(records, arms)
            outcomes[variation] = tasks = of.by_task(found)
            cells = of.summarise(suite, variation, found, tasks, confidence)
            pairs = of.pairs(of.varied(suite, variation), found)
            _collect(varied if variation else unvaried, run, variation, cells, pairs, confidence)
        boards.append(make_board(suite, arms, outcomes, run.header.certificates))
    curves = rollups.by_factor(boards)
    by_suite, *others = _comparisons(unvaried, "comparison", "suite", confidence)
    made = [
        *([by_suite] if unvaried.suites or not varied.suites else []),
        *_rolled_up(run, boards, curves, confidence),
        *others,
    ]
    if varied.suites:
        details = _comparisons(varied, "variations", "suite and variation", confidence)
        made += [dataclasses.replace(table, detail=True) for table in details]
    return Assembled(tuple(made), curves, confidence)


def _by_place(run: Run) -> dict[str, dict[str, list[Record]]]:
    """Records by suite and variation: suites in the order of the study, then those of single tasks.

    A varied task is another task: its episodes never enter the rate of the unchanged one.
    """
    suites = [*run.header.study.get("suites", ()), *(record.suite for record in run.records)]
    order = {suite: place for place, suite in enumerate(dict.fromkeys(suites))}
    found: dict[str, dict[str, list[Record]]] = {}
    for record in sorted(run.records, key=lambda record: (order[record.suite], record.variation)):
        found.setdefault(record.suite, {}).setdefault(record.variation, []).append(record)
    return found


def _collect(
    into: _Compared,
    run: Run,
    variation: str,
    cells: tuple[list[Cell], dict[str, list[Cell]]],
    pairs: list[Pair],
    confidence: float,
) -> None:
    """Add what was found on a suite under a variation; below each task's arms stands its certificate."""
    of_suite, of_tasks = cells
    into.suites += of_suite
    for task, own in of_tasks.items():
        into.tasks += own
        if certificate := run.header.certificates.get(f"{task}|{variation}"):
            into.tasks.append(of.certified(of.varied(task, variation), certificate, confidence))
    into.pairs += pairs
    if winner := of.best(pairs, confidence):
        into.best[of_suite[0].place] = winner


def _comparisons(compared: _Compared, name: str, places: str, confidence: float) -> Iterator[Table]:
    """Rates by suite, paired differences where there are several arms, and rates by task."""
    yield rates.comparison(
        compared.suites, compared.best, place="suite", name=name, title=f"Success by {places}",
        confidence=confidence,
    )  # fmt: skip
    if compared.pairs:
        yield differences.differences(
            compared.pairs, name=f"{name}_pairs", title=f"Paired differences by {places}"
        )
    if compared.tasks:
        yield rates.comparison(
            compared.tasks, {}, place="task", name=f"{name}_tasks",
            title=f"Success by {places.replace('suite', 'task')}", confidence=confidence,
        )  # fmt: skip


def _rolled_up(run: Run, boards: Sequence[Board], by_factor: Rollup, confidence: float) -> Iterator[Table]:
    """Success by axis, factor and level, drops, and the published rows: those of which there are any."""
    level_0 = "Level 0 is the unvaried episodes of the tasks that the other levels were run on."
    if (found := rollups.by_task_axis(boards)).lines:
        yield axes.rollup(
            found, name="task_axes", title="Success by task axis", place="suite", column="task_axis",
            about=["Unvaried episodes, by the axis of generalisation that their task tests."],
            confidence=confidence,
        )  # fmt: skip
    if (found := rollups.by_factor_axis(boards)).lines:
        yield axes.rollup(
            found, name="factor_axes", title="Success by factor axis and level", place="axis", column="level",
            heading="level {}", confidence=confidence,
            about=[
                "All factors of an axis that were run at a level.", level_0,
                "At level 0 an episode counts once, however many factors share it; beyond it factors share "
                "initial states, and the intervals take them for independent.", *_uneven(boards),
            ],
        )  # fmt: skip
    if by_factor.lines:
        yield axes.rollup(
            by_factor, name="factors", title="Success by factor and level", place="factor", column="level",
            heading="level {}", about=["One factor varied at a time.", level_0], confidence=confidence,
        )  # fmt: skip
    if (found := rollups.by_composition(boards)).lines:
        yield axes.rollup(
            found, name="compositions", title="Success under several factors at once", place="variation",
            column="episodes",
            about=["Several factors at once, beside the unvaried episodes of the same tasks."],
            confidence=confidence,
        )  # fmt: skip
    if dropped := rollups.drops(boards):
        yield axes.drops(dropped)
    for board in boards:
        if table := published_table(board, run.header.published, confidence):
            yield table


def _uneven(boards: Sequence[Board]) -> Iterator[str]:
    if uneven := rollups.uneven_axes(boards):
        yield (
            f"Factors of {', '.join(uneven)} were run on different tasks, so that levels weigh tasks "
            "differently: compare levels factor by factor."
        )
