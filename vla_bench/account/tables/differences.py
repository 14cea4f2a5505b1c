"""Arms against each other, paired by episode."""

from __future__ import annotations

from collections.abc import Sequence

from vla_bench.account.cells import Pair
from vla_bench.account.statistics import PairedDifference
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    MCNEMAR,
    UNDEFINED,
    Number,
    Table,
    arm_label,
    arm_numbers,
    constant_columns,
    p_text,
    shown_columns,
)


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


def pair_texts(result: PairedDifference | None, p_holm: float | None) -> tuple[str, ...]:
    """Pairs, successes of only one, difference in points, p and p after Holm."""
    if result is None or p_holm is None:
        return ("0", *(UNDEFINED,) * 5)
    counts = (str(result.n), str(result.first_only), str(result.second_only))
    return (*counts, f"{100 * result.difference:+.1f}", p_text(result.p_value), p_text(p_holm))


def pair_numbers(result: PairedDifference | None, p_holm: float | None) -> tuple[Number, ...]:
    """The same as numbers."""
    if result is None:
        return (0, 0, 0, None, None, None)
    return (result.n, result.first_only, result.second_only, result.difference, result.p_value, p_holm)
