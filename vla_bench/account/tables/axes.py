"""The tables by axis, factor and level: roll-ups, drops against level 0, and the published tasks' rows."""

from __future__ import annotations

from collections.abc import Sequence

from vla_bench.account.boards import Tally
from vla_bench.account.cells import REFERENCE
from vla_bench.account.rollups import Drop, Line, Rollup
from vla_bench.account.statistics import wilson
from vla_bench.account.tables.differences import pair_numbers, pair_texts
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    ERRORS,
    MCNEMAR,
    UNDEFINED,
    Number,
    Table,
    about_the_reference,
    arm_numbers,
    constant_columns,
    ends,
    shown_columns,
)

FEW = 30  # episodes of a cell below which its interval deserves a warning


def rollup(
    made: Rollup,
    *,
    name: str,
    title: str,
    place: str,
    column: str,
    about: Sequence[str],
    confidence: float,
    heading: str = "{}",
) -> Table:
    """A roll-up as a table: a line an arm, its cells beside each other; the CSV has a row a cell.

    `place` and `column` say what these are; `heading` is printed above a column; `about` opens the caption.
    """
    arms = [line.arm for line in made.lines]
    shown = shown_columns(arms)
    tallies = [line.cells[c] for line in made.lines for c in made.columns if c in line.cells]
    counts = [tally.n for tally in tallies if tally.n]
    sentences = [
        *about,
        f"Cells: rate in %, [{100 * confidence:g} % Wilson interval], successes/episodes, pooled over the "
        "episodes of all tasks: where tasks have equally many, the mean of their rates.",
        f"Intervals are about these tasks, not about others{constant_columns(arms, shown)}.",
        ERRORS,
        f"Some cells hold fewer than {FEW} episodes: read their intervals, not their rates."
        if counts and min(counts) < FEW
        else "",
        about_the_reference(arms),
        "A cell has it where each of its tasks was certified." if REFERENCE in arms else "",
    ]
    return Table(
        name=name, title=title, caption=tuple(filter(None, sentences)),
        header=(place, *shown, *map(heading.format, made.columns), "tasks", "errors", "dropped"),
        rows=tuple(
            (
                line.place, *(ARM_COLUMNS[c](line.arm) for c in shown),
                *(cell_text(line.cells.get(c, Tally()), confidence) for c in made.columns),
                *_row_counts(line),
            )
            for line in made.lines
        ),
        text_columns=1 + len(shown), bold=frozenset(),
        numbers_header=(
            place, *ARM_COLUMNS, column, "tasks", "successes", "n", "rate", "low", "high", "confidence",
            "errors", "dropped",
        ),
        numbers=tuple(
            (line.place, *arm_numbers(line.arm), c, *_tally_numbers(line.cells[c], confidence))
            for line in made.lines
            for c in made.columns
            if c in line.cells
        ),
    )  # fmt: skip


def drops(found: Sequence[Drop]) -> Table:
    """Every variation against the unvaried episodes, paired."""
    arms = [drop.arm for drop in found]
    shown = shown_columns(arms)
    return Table(
        name="factor_drops", title="Drop against the unvaried episodes",
        caption=(
            "Each arm against itself: the same tasks and initial states, varied and unvaried; the difference "
            "is the varied rate minus the unvaried one, in points, over the pairs in which both count.",
            f"{MCNEMAR}; Holm's correction is over the variations of an arm on a suite"
            f"{constant_columns(arms, shown)}.",
        ),
        header=(
            "variation", *shown, "pairs", "only varied", "only unvaried", "difference", "p", "p Holm",
        ),
        rows=tuple(
            (drop.place, *(ARM_COLUMNS[c](drop.arm) for c in shown), *pair_texts(drop.result, drop.p_holm))
            for drop in found
        ),
        text_columns=1 + len(shown), bold=frozenset(),
        numbers_header=(
            "variation", *ARM_COLUMNS, "pairs", "only_varied", "only_unvaried", "difference", "p", "p_holm",
        ),
        numbers=tuple(
            (drop.place, *arm_numbers(drop.arm), *pair_numbers(drop.result, drop.p_holm)) for drop in found
        ),
    )  # fmt: skip


def cell_text(tally: Tally, confidence: float) -> str:
    """Rate and interval in whole percent, and the counts that have all digits."""
    interval = wilson(tally.successes, tally.n, confidence)
    if interval is None or tally.rate is None:
        return UNDEFINED
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * tally.rate:.0f} [{low:.0f}–{high:.0f}] {tally.successes}/{tally.n}"


def _row_counts(line: Line) -> tuple[str, str, str]:
    """Tasks, errors and dropped episodes of a line."""
    total = line.total
    if line.arm == REFERENCE:
        return (str(len(total.tasks)), UNDEFINED, UNDEFINED)
    return (str(len(total.tasks)), str(total.errors), str(total.dropped))


def _tally_numbers(tally: Tally, confidence: float) -> tuple[Number, ...]:
    interval = wilson(tally.successes, tally.n, confidence)
    return (
        len(tally.tasks), tally.successes, tally.n, tally.rate, *ends(interval), confidence,
        tally.errors, tally.dropped,
    )  # fmt: skip
