"""The tables by axis, factor and level: roll-ups, drops against level 0, and the published tasks' rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_bench.account import rollups
from vla_bench.account.boards import Board, Tally
from vla_bench.account.cells import REFERENCE
from vla_bench.account.counted import Counted
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
    few_differ_said,
    marked,
    marks_said,
    shown_columns,
)

FEW = 30  # episodes of a cell below which its interval deserves a warning


def tables(counted: Counted) -> Iterator[Table]:
    """Policy × axis: by the axis or group of tasks, by factors of an axis, by level, and what they cost."""
    boards, confidence = counted.boards, counted.confidence
    level_0 = "Level 0 is the unvaried episodes of the tasks that the other levels were run on."
    if (found := rollups.by_task_axis(boards)).lines:
        yield rollup(
            found, name="task_axes", title="Success by task axis", place="suite", column="task_axis",
            about=["Unvaried episodes, by the axis of generalisation that their task tests."],
            confidence=confidence,
        )  # fmt: skip
    if (found := rollups.by_group(boards)).lines:
        yield rollup(
            found, name="task_groups", title="Success by group of tasks", place="suite", column="task_group",
            about=["Unvaried episodes, by what their suite tells apart: in (id) or out of distribution."],
            confidence=confidence,
        )  # fmt: skip
    if (found := rollups.by_factor_axis(boards)).lines:
        yield rollup(
            found, name="factor_axes", title="Success by factor axis and level", place="axis", column="level",
            heading="level {}", confidence=confidence,
            about=[
                "All factors of an axis that were run at a level.", level_0,
                "At level 0 an episode counts once, however many factors share it; beyond it factors share "
                "initial states, and the intervals take them for independent.", *_uneven(boards),
            ],
        )  # fmt: skip
    if (found := rollups.by_factor(boards)).lines:
        yield rollup(
            found, name="factors", title="Success by factor and level", place="factor", column="level",
            heading="level {}", about=["One factor varied at a time.", level_0], confidence=confidence,
        )  # fmt: skip
    if (found := rollups.by_composition(boards)).lines:
        yield rollup(
            found, name="compositions", title="Success under several factors at once", place="variation",
            column="episodes",
            about=["Several factors at once, beside the unvaried episodes of the same tasks."],
            confidence=confidence,
        )  # fmt: skip
    if dropped := rollups.drops(boards, confidence):
        yield drops(dropped, confidence)


def _uneven(boards: Sequence[Board]) -> Iterator[str]:
    if uneven := rollups.uneven_axes(boards):
        yield (
            f"Factors of {', '.join(uneven)} were run on different tasks, so that levels weigh tasks "
            "differently: compare levels factor by factor."
        )


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
        marks_said() if any(tally.errors for tally in tallies) else "",
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


def drops(found: Sequence[Drop], confidence: float) -> Table:
    """Every variation against the unvaried episodes, paired."""
    arms = [drop.arm for drop in found]
    shown = shown_columns(arms)
    return Table(
        name="factor_drops", title="Drop against the unvaried episodes",
        caption=(
            "Each arm against itself: the same tasks and initial states, varied and unvaried; the difference "
            "is the varied rate minus the unvaried one, in points, over the pairs in which both count, each "
            "with the same weight.",
            f"{MCNEMAR}; Holm's correction is over the variations of an arm on a suite; the interval is from "
            f"the bootstrap of episodes within tasks{constant_columns(arms, shown)}.",
            *([few_differ_said()] if any(drop.estimate and drop.estimate.warning for drop in found) else []),
            *([marks_said()] if any(drop.errors for drop in found) else []),
        ),
        header=(
            "variation", *shown, "pairs", "only varied", "only unvaried", "difference",
            f"{100 * confidence:g} % interval", "p", "p Holm",
        ),
        rows=tuple(
            (
                drop.place, *(ARM_COLUMNS[c](drop.arm) for c in shown),
                *pair_texts(drop.result, drop.estimate, drop.p_holm, drop.errors),
            )
            for drop in found
        ),
        text_columns=1 + len(shown), bold=frozenset(),
        numbers_header=(
            "variation", *ARM_COLUMNS, "pairs", "only_varied", "only_unvaried", "difference", "low",
            "high", "p", "p_holm", "warning", "errors",
        ),
        numbers=tuple(
            (
                drop.place, *arm_numbers(drop.arm), *pair_numbers(drop.result, drop.estimate, drop.p_holm),
                drop.errors,
            )
            for drop in found
        ),
    )  # fmt: skip


def cell_text(tally: Tally, confidence: float) -> str:
    """Rate and interval in whole percent, and the counts that have all digits."""
    interval = wilson(tally.successes, tally.n, confidence)
    if interval is None or tally.rate is None:
        return UNDEFINED
    low, high = 100 * interval.low, 100 * interval.high
    text = f"{100 * tally.rate:.0f} [{low:.0f}–{high:.0f}] {tally.successes}/{tally.n}"
    return marked(text, tally.errors)


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
