"""The rates of arms at places, with what they cost: policy × precision in one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from vla_bench.account.cells import REFERENCE, Cell
from vla_bench.account.counted import Counted, Place
from vla_bench.account.tables.differences import differences
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    ERRORS,
    UNDEFINED,
    Number,
    Table,
    about_the_reference,
    arm_numbers,
    constant_columns,
    ends,
    hertz,
    interval_text,
    marked,
    marks_said,
    milliseconds,
    percent,
    shown_columns,
    size,
)
from vla_bench.types import Arm

Say = Callable[[Cell], str]


def by_suite(counted: Counted) -> Iterator[Table]:
    """The unvaried suites; an empty table where nothing at all was run."""
    if counted.unvaried or not counted.varied:
        yield _of_suites(counted, counted.unvaried, "comparison", "suite")


def by_task(counted: Counted) -> Iterator[Table]:
    """Their tasks."""
    yield from _of_tasks(counted, counted.unvaried, "comparison_tasks", "task")


def varied(counted: Counted) -> Iterator[Table]:
    """Rates, differences and tasks of every variation: what the tables by axis condense."""
    places = counted.varied
    if not places:
        return
    compared = [pair for place in places for pair in place.pairs]
    made = [_of_suites(counted, places, "variations", "suite and variation")]
    if compared:
        title = "Differences by suite and variation"
        made.append(
            differences(compared, name="variations_pairs", title=title, confidence=counted.confidence)
        )
    made += _of_tasks(counted, places, "variations_tasks", "task and variation")
    yield from (dataclasses.replace(table, detail=True) for table in made)


def _of_suites(counted: Counted, places: Sequence[Place], name: str, what: str) -> Table:
    cells = [cell for place in places for cell in place.cells]
    best = {place.name: place.best for place in places if place.best}
    return comparison(
        cells, best, place="suite", name=name, title=f"Success by {what}", confidence=counted.confidence
    )


def _of_tasks(counted: Counted, places: Sequence[Place], name: str, what: str) -> Iterator[Table]:
    cells = [cell for place in places for own in place.tasks.values() for cell in own]
    if cells:
        yield comparison(
            cells, {}, place="task", name=name, title=f"Success by {what}", confidence=counted.confidence
        )


def comparison(
    cells: Sequence[Cell], best: dict[str, Arm], *, place: str, name: str, title: str, confidence: float
) -> Table:
    """Rates of every arm at every place; `place` says what the places are, `best` which arm is bold where."""
    arms = [cell.arm for cell in cells]
    shown = shown_columns(arms)
    bold = frozenset(i for i, cell in enumerate(cells) if best.get(cell.place) == cell.arm)
    columns = {**_outcome_columns(cells, confidence), **_cost_columns(cells)}
    return Table(
        name=name, title=title,
        caption=tuple(filter(None, _caption(cells, bool(bold), shown, confidence, place))),
        header=(place, *shown, *columns),
        rows=tuple(
            (cell.place, *(ARM_COLUMNS[c](cell.arm) for c in shown), *(say(cell) for say in columns.values()))
            for cell in cells
        ),
        text_columns=1 + len(shown),
        bold=bold,
        numbers_header=(
            place, *ARM_COLUMNS, "successes", "n", "rate", "low", "high", "confidence", "p50_ms", "p95_ms",
            "policy_hz", "command_hz", "weights_bytes", "peak_device_memory_bytes", "errors", "dropped",
            "low_errors_fail", "high_errors_succeed",
        ),
        numbers=tuple(_cell_numbers(cell, confidence) for cell in cells),
    )  # fmt: skip


def _outcome_columns(cells: Sequence[Cell], confidence: float) -> dict[str, Say]:
    columns: dict[str, Say] = {
        "successes": lambda cell: marked(f"{cell.successes}/{cell.n}", cell.errors) if cell.n else UNDEFINED,
        "rate % ↑": lambda cell: percent(cell.rate),
        f"{100 * confidence:g} % interval": lambda cell: interval_text(cell.interval),
        "errors": lambda cell: UNDEFINED if cell.arm == REFERENCE else str(cell.errors),
        "dropped": lambda cell: UNDEFINED if cell.arm == REFERENCE else str(cell.dropped),
    }
    if any(cell.errors for cell in cells):
        columns["bounds %"] = lambda cell: interval_text(cell.bounds) if cell.errors else UNDEFINED
    return columns


def _cost_columns(cells: Sequence[Cell]) -> dict[str, Say]:
    columns: dict[str, Say] = {
        "p50 ms ↓": lambda cell: milliseconds(cell.p50_ms),
        "p95 ms ↓": lambda cell: milliseconds(cell.p95_ms),
        "policy Hz ↑": lambda cell: hertz(cell.policy_hz),
        "command Hz": lambda cell: hertz(cell.command_hz),
    }
    if any(cell.weights_bytes for cell in cells):
        columns["weights ↓"] = lambda cell: size(cell.weights_bytes)
    if any(cell.peak_bytes for cell in cells):
        columns["peak memory ↓"] = lambda cell: size(cell.peak_bytes)
    return columns


def _caption(
    cells: Sequence[Cell], bold: bool, shown: Sequence[str], confidence: float, place: str
) -> Iterator[str]:
    arms = [cell.arm for cell in cells]
    yield (
        f"Estimand: how often an arm succeeds on these tasks, each episode of a {place} with the same "
        f"weight; successes/episodes that count, with {100 * confidence:g} % Wilson intervals"
        f"{constant_columns(arms, shown)}."
    )
    yield ERRORS
    if any(cell.errors for cell in cells):
        yield marks_said()
        yield "Bounds take this arm's errors for failures and for successes."
    yield (
        "p50 and p95 are of what one inference computed, on the device of the run; policy Hz is 1 / p50; "
        "command Hz is fresh commands per second of task time."
    )
    if any(cell.weights_bytes for cell in cells):
        yield "Weights are the policy's parameters as they were loaded, scales and padding included."
    if any(cell.peak_bytes for cell in cells):
        yield "Peak memory is what the process held on the GPU at most; without one it is not measured."
    if bold:
        yield f"Bold: better than every other arm of the suite, each with p Holm below {1 - confidence:.3g}."
    yield about_the_reference(arms)


def _cell_numbers(cell: Cell, confidence: float) -> tuple[Number, ...]:
    return (
        cell.place, *arm_numbers(cell.arm), cell.successes, cell.n, cell.rate, *ends(cell.interval),
        confidence, cell.p50_ms, cell.p95_ms, cell.policy_hz, cell.command_hz, cell.weights_bytes,
        cell.peak_bytes, cell.errors, cell.dropped, *ends(cell.bounds),
    )  # fmt: skip
