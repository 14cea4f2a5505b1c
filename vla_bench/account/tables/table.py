"""A table: rows of text to read, and rows of numbers to compute with; and how arms and numbers are said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vla_bench.account.cells import REFERENCE
from vla_bench.account.statistics import FEWEST_DIFFERING, TASKS_OF_A_LEVEL, Interval
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
MARK = "†"
FEW_DIFFER = "‡"
FEW_TASKS = "§"
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


def shown_columns(arms: Sequence[Arm]) -> list[str]:
    """Policy and precision always, the others where arms differ in them; the reference has no say."""
    arms = [arm for arm in arms if arm != REFERENCE]
    return [
        column
        for column, show in ARM_COLUMNS.items()
        if column in ("policy", "precision") or len(set(map(show, arms))) > 1
    ]


def differing_columns(arms: Sequence[Arm]) -> list[str]:
    """The columns that tell arms apart, the policy where nothing does; the reference has no say."""
    arms = [arm for arm in arms if arm != REFERENCE]
    found = [column for column, show in ARM_COLUMNS.items() if len(set(map(show, arms))) > 1]
    return found or ["policy"]


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


def interval_text(interval: Interval | None) -> str:
    """An interval in percent."""
    return UNDEFINED if interval is None else f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def hertz(hertz: float | None) -> str:
    """A frequency."""
    if hertz is None:
        return UNDEFINED
    return f"{hertz:.1f}" if hertz < 10_000 else f"{hertz:.1e}"  # a policy that computes nothing


def points(difference: float) -> str:
    """A difference of rates, in points."""
    return f"{100 * difference:+.1f}"


def points_interval(interval: Interval | None) -> str:
    """An interval of a difference; both of its ends have a sign, so that "to" stands between them."""
    return UNDEFINED if interval is None else f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"


def milliseconds(value: float | None) -> str:
    """A span of time to three digits."""
    if value is None:
        return UNDEFINED
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def size(count: int | None) -> str:
    """Bytes of memory, in a decimal unit."""
    if count is None:
        return UNDEFINED
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def marked(text: str, errors: int) -> str:
    """A cell of which some episodes ended in an error has a mark."""
    return f"{text} {MARK}" if errors else text


def marks_said() -> str:
    """What the mark means, for the caption."""
    return f"{MARK}: episodes ended in errors; not to be published until the run has made up for them."


def warned(text: str, warning: str, mark: str) -> str:
    """A number of which a statistic warns has a mark."""
    return f"{text} {mark}" if warning else text


def few_differ_said() -> str:
    """What the mark of an interval means, for the caption."""
    return (
        f"{FEW_DIFFER}: the arms differ in fewer than {FEWEST_DIFFERING} episodes; the interval may cover "
        "less, or more, often than it says."
    )


def few_tasks_said() -> str:
    """What the mark of a model's effect means, for the caption."""
    return (
        f"{FEW_TASKS}: fewer than {TASKS_OF_A_LEVEL} tasks have one of the levels, and p errs more often "
        "than it says: at 5 %, in simulations, up to 7 % with four tasks, 10 with three, 14 with two."
    )


def p_text(p: float) -> str:
    """A p-value to three digits, or its order of magnitude."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def about_the_reference(arms: Sequence[Arm]) -> str:
    """What the reference is, for the caption of a table that shows it."""
    if REFERENCE not in arms:
        return ""
    return (
        f"{REFERENCE.policy[0].upper()}{REFERENCE.policy[1:]}: how often a script that sees the state solved "
        "the same tasks, from other seeds, when they were certified as feasible; a reference, no upper bound."
    )


def arm_numbers(arm: Arm) -> tuple[Number, ...]:
    """An arm in the columns `ARM_COLUMNS`; the reference has a name alone."""
    if arm == REFERENCE:
        return (arm.policy, None, None, None, None)
    return (arm.policy, arm.precision, arm.pacing, arm.latency, arm.chunk_executed)


def ends(interval: Interval | None) -> tuple[Number, Number]:
    """Both ends of an interval, or of none."""
    return (None, None) if interval is None else (interval.low, interval.high)
