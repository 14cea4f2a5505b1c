"""What time did to the arms, where the world does not wait for every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vla_bench.account.counted import Counted
from vla_bench.account.pace import Pace, pace_of
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    ERRORS,
    UNDEFINED,
    Number,
    Table,
    arm_numbers,
    constant_columns,
    hertz,
    marked,
    marks_said,
    milliseconds,
    percent,
    shown_columns,
)

_COLUMNS: dict[str, Callable[[Pace], str]] = {
    "successes": lambda t: marked(f"{t.cell.successes}/{t.cell.n}", t.cell.errors),
    "score ↑": lambda t: _number(t.score, ".2f"),
    "to success s ↓": lambda t: _number(t.success_s, ".2f"),
    "policy Hz ↑": lambda t: hertz(t.cell.policy_hz),
    "fresh Hz ↑": lambda t: hertz(t.cell.command_hz),
    "delay p50 ms": lambda t: milliseconds(t.delay_p50_ms),
    "p95": lambda t: milliseconds(t.delay_p95_ms),
    "stale % ↓": lambda t: percent(t.stale_share),
    "age p50 ms ↓": lambda t: milliseconds(t.age_p50_ms),
    "age p95 ↓": lambda t: milliseconds(t.age_p95_ms),
    "late % ↓": lambda t: percent(t.late_share),
    "jerk m/s³ ↓": lambda t: _number(t.jerk_m_s3, ".1f"),
}
_NUMBERS = (
    "score", "success_s", "delay_p50_ms", "delay_p95_ms", "stale_share", "age_p50_ms", "age_p95_ms",
    "late_share", "jerk_m_s3",
)  # fmt: skip


def tables(counted: Counted) -> Iterator[Table]:
    """`timing`: places with an arm for which the world does not wait, unvaried and varied."""
    found: list[Pace] = []
    for place in counted.places:
        if any(arm.pacing != "blocking" for arm in place.outcomes):
            period_s = counted.header.periods_s.get(place.suite)
            found += [pace_of(cell, place.outcomes[cell.arm], period_s) for cell in place.cells if cell.n]
    if not found:
        return
    arms = [made.cell.arm for made in found]
    shown = shown_columns(arms)
    sentences = (
        "All episodes that count, each with the same weight, successes and failures"
        f"{constant_columns(arms, shown)}.",
        ERRORS,
        "To success: median simulated time of the successes. Policy Hz: 1 / median of what one inference "
        "computed. Fresh Hz: fresh commands per second of task time. Delay: of an inference on the virtual "
        "clock. Stale: share of the simulated time without a fresh action; each is one for a policy period. "
        "Age: of the observation when its first action was applied. Late: inferences that took "
        "longer than a policy period. Jerk: median over episodes of the mean norm at the finger tips.",
        marks_said() if any(made.cell.errors for made in found) else "",
    )
    yield Table(
        name="timing", title="What time did",
        caption=tuple(filter(None, sentences)),
        header=("suite", *shown, *_COLUMNS),
        rows=tuple(
            (
                made.cell.place, *(ARM_COLUMNS[c](made.cell.arm) for c in shown),
                *(say(made) for say in _COLUMNS.values()),
            )
            for made in found
        ),
        text_columns=1 + len(shown), bold=frozenset(),
        numbers_header=(
            "suite", *ARM_COLUMNS, "successes", "n", "policy_hz", "command_hz", "errors", *_NUMBERS,
        ),
        numbers=tuple(map(_row, found)),
    )  # fmt: skip


def _row(made: Pace) -> tuple[Number, ...]:
    cell = made.cell
    return (
        cell.place, *arm_numbers(cell.arm), cell.successes, cell.n, cell.policy_hz, cell.command_hz,
        cell.errors, *(getattr(made, name) for name in _NUMBERS),
    )  # fmt: skip


def _number(value: float | None, form: str) -> str:
    return UNDEFINED if value is None else format(value, form)
