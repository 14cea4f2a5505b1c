"""The rates of arms at places, with what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vla_bench.account.cells import REFERENCE, Cell
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
    percent,
    shown_columns,
)
from vla_bench.types import Arm


def comparison(
    cells: Sequence[Cell], best: dict[str, Arm], *, place: str, name: str, title: str, confidence: float
) -> Table:
    """Rates of every arm at every place; `place` says what the places are, `best` which arm is bold where."""
    arms = [cell.arm for cell in cells]
    shown = shown_columns(arms)
    with_bounds = any(cell.errors for cell in cells)
    bold = frozenset(i for i, cell in enumerate(cells) if best.get(cell.place) == cell.arm)
    level = f"{100 * confidence:g} %"
    columns: dict[str, Callable[[Cell], str]] = {
        "successes": lambda cell: f"{cell.successes}/{cell.n}" if cell.n else UNDEFINED,
        "rate %": lambda cell: percent(cell.rate),
        f"{level} interval": lambda cell: interval_text(cell.interval),
        "policy Hz": lambda cell: hertz(cell.policy_hz),
        "command Hz": lambda cell: hertz(cell.command_hz),
        "errors": lambda cell: UNDEFINED if cell.arm == REFERENCE else str(cell.errors),
        "dropped": lambda cell: UNDEFINED if cell.arm == REFERENCE else str(cell.dropped),
    }
    if with_bounds:
        columns["bounds %"] = lambda cell: interval_text(cell.bounds) if cell.errors else UNDEFINED
    sentences = [
        f"Episodes that count, with {level} Wilson intervals{constant_columns(arms, shown)}.",
        ERRORS,
        "Bounds take this arm's errors for failures and for successes." if with_bounds else "",
        "Policy Hz is 1 / median latency on the device of the run; command Hz is fresh commands per second "
        "of task time.",
        f"Bold: better than every other arm of the suite, each with p Holm below {1 - confidence:.3g}."
        if bold
        else "",
        about_the_reference(arms),
    ]
    return Table(
        name=name, title=title, caption=tuple(filter(None, sentences)),
        header=(place, *shown, *columns),
        rows=tuple(
            (cell.place, *(ARM_COLUMNS[c](cell.arm) for c in shown), *(say(cell) for say in columns.values()))
            for cell in cells
        ),
        text_columns=1 + len(shown),
        bold=bold,
        numbers_header=(
            place, *ARM_COLUMNS, "successes", "n", "rate", "low", "high", "confidence", "policy_hz",
            "command_hz", "errors", "dropped", "low_errors_fail", "high_errors_succeed",
        ),
        numbers=tuple(_cell_numbers(cell, confidence) for cell in cells),
    )  # fmt: skip


def _cell_numbers(cell: Cell, confidence: float) -> tuple[Number, ...]:
    return (
        cell.place, *arm_numbers(cell.arm), cell.successes, cell.n, cell.rate, *ends(cell.interval),
        confidence, cell.policy_hz, cell.command_hz, cell.errors, cell.dropped, *ends(cell.bounds),
    )  # fmt: skip
