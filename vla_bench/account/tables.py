"""The tables of a report: cells and pairs as rows of text to read, and rows of numbers to compute with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vla_bench.account.cells import REFERENCE, Cell, Pair
from vla_bench.account.statistics import Interval, PairedDifference
from vla_bench.types import Arm

UNDEFINED = "-"
ARM_COLUMNS: dict[str, Callable[[Arm], str]] = {
    "policy": lambda arm: arm.policy,
    "precision": lambda arm: arm.precision,
    "pacing": lambda arm: arm.pacing,
    "latency": lambda arm: arm.latency,
    "chunk": lambda arm: UNDEFINED if arm.chunk_executed is None else str(arm.chunk_executed),
}
ERRORS = "Errors are not failures: an episode that ended in an error for one arm is dropped from all."
MCNEMAR = "p is exact McNemar's, two-sided"

Number = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table in words and in numbers.

    Attributes:
        name: Stem of its files.
        caption: Its sentences.
        header, rows: What is printed, not yet escaped for any format.
        text_columns: So many columns from the left are words; the others are aligned right.
        bold: Indices of the rows that a test calls best.
        numbers_header, numbers: The CSV.
        detail: Whether it spells out what another table condenses, and is written but not printed.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int
    bold: frozenset[int]
    numbers_header: tuple[str, ...]
    numbers: tuple[tuple[Number, ...], ...]
    detail: bool = False


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
        f"{level} interval": lambda cell: _interval(cell.interval),
        "policy Hz": lambda cell: _hertz(cell.policy_hz),
        "command Hz": lambda cell: _hertz(cell.command_hz),
        "errors": lambda cell: UNDEFINED if cell.arm == REFERENCE else str(cell.errors),
        "dropped": lambda cell: UNDEFINED if cell.arm == REFERENCE else str(cell.dropped),
    }
    if with_bounds:
        columns["bounds %"] = lambda cell: _interval(cell.bounds) if cell.errors else UNDEFINED
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


def differences(compared: Sequence[Pair], *, name: str, title: str) -> Table:
    """Every two arms of a suite, paired by episode."""
    arms = [arm for pair in compared for arm in (pair.first, pair.second)]
    shown = shown_columns(arms)

    return Table(
        name=name, title=title,
        caption=(
            "Episodes that count for both arms; the difference is that of their rates, in points.",
            f"{MCNEMAR}; Holm's correction is over the pairs of a suite{constant_columns(arms, shown)}.",
        ),
        header=(
            "suite", "first", "second", "pairs", "only first", "only second", "difference", "p", "p Holm",
        ),
        rows=tuple(
            (
                pair.place, arm_label(pair.first, shown), arm_label(pair.second, shown),
                *pair_texts(pair.result, pair.p_holm),
            )
            for pair in compared
        ),
        text_columns=3, bold=frozenset(),
        numbers_header=(
            "suite", *(f"first_{c}" for c in ARM_COLUMNS), *(f"second_{c}" for c in ARM_COLUMNS),
            "pairs", "first_only", "second_only", "difference", "p", "p_holm",
        ),
        numbers=tuple(
            (
                pair.place, *arm_numbers(pair.first), *arm_numbers(pair.second),
                *pair_numbers(pair.result, pair.p_holm),
            )
            for pair in compared
        ),
    )  # fmt: skip


def shown_columns(arms: Sequence[Arm]) -> list[str]:
    """Policy and precision always, the others where arms differ in them; the reference has no say."""
    arms = [arm for arm in arms if arm != REFERENCE]
    return [
        column
        for column, show in ARM_COLUMNS.items()
        if column in ("policy", "precision") or len(set(map(show, arms))) > 1
    ]


def arm_label(arm: Arm, shown: Sequence[str]) -> str:
    """An arm in some of the columns `ARM_COLUMNS`, as one text."""
    words = (ARM_COLUMNS[column](arm) for column in shown)
    return " ".join(word for word in words if word != UNDEFINED)


def constant_columns(arms: Sequence[Arm], shown: Sequence[str]) -> str:
    """What all arms have in common, for the caption."""
    arms = [arm for arm in arms if arm != REFERENCE]
    same = [
        f"{column} {show(arms[0])}" for column, show in ARM_COLUMNS.items() if arms and column not in shown
    ]
    said = [text for text in same if not text.endswith(f" {UNDEFINED}")]
    return f"; all arms: {', '.join(said)}" if said else ""


def percent(rate: float | None) -> str:
    """A rate in percent, to a tenth."""
    return UNDEFINED if rate is None else f"{100 * rate:.1f}"


def _interval(interval: Interval | None) -> str:
    return UNDEFINED if interval is None else f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def _hertz(hertz: float | None) -> str:
    if hertz is None:
        return UNDEFINED
    return f"{hertz:.1f}" if hertz < 10_000 else f"{hertz:.1e}"  # a policy that computes nothing


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def about_the_reference(arms: Sequence[Arm]) -> str:
    """What the reference is, for the caption of a table that shows it."""
    if REFERENCE not in arms:
        return ""
    return (
        f"{REFERENCE.policy[0].upper()}{REFERENCE.policy[1:]}: how often a script that sees the state solved "
        "the same tasks, from other seeds, when they were certified as feasible; a reference, no upper bound."
    )


def pair_texts(result: PairedDifference | None, p_holm: float | None) -> tuple[str, ...]:
    """Pairs, successes of only one, difference in points, p and p after Holm."""
    if result is None or p_holm is None:
        return ("0", *(UNDEFINED,) * 5)
    counts = (str(result.n), str(result.first_only), str(result.second_only))
    return (*counts, f"{100 * result.difference:+.1f}", _p(result.p_value), _p(p_holm))


def pair_numbers(result: PairedDifference | None, p_holm: float | None) -> tuple[Number, ...]:
    """The same as numbers."""
    if result is None:
        return (0, 0, 0, None, None, None)
    return (result.n, result.first_only, result.second_only, result.difference, result.p_value, p_holm)


def _cell_numbers(cell: Cell, confidence: float) -> tuple[Number, ...]:
    return (
        cell.place, *arm_numbers(cell.arm), cell.successes, cell.n, cell.rate, *ends(cell.interval),
        confidence, cell.policy_hz, cell.command_hz, cell.errors, cell.dropped, *ends(cell.bounds),
    )  # fmt: skip


def arm_numbers(arm: Arm) -> tuple[Number, ...]:
    """An arm in the columns `ARM_COLUMNS`; the reference has a name alone."""
    if arm == REFERENCE:
        return (arm.policy, None, None, None, None)
    return (arm.policy, arm.precision, arm.pacing, arm.latency, arm.chunk_executed)


def ends(interval: Interval | None) -> tuple[Number, Number]:
    """Both ends of an interval, or of none."""
    return (None, None) if interval is None else (interval.low, interval.high)
