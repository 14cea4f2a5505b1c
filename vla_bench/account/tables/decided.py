"""The comparisons that a run decided while it went on, and stopped running."""

from __future__ import annotations

from collections.abc import Iterator

from vla_bench.account.cells import varied
from vla_bench.account.counted import Counted
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    Table,
    arm_label,
    arm_numbers,
    constant_columns,
    p_text,
    shown_columns,
)


def tables(counted: Counted) -> Iterator[Table]:
    """`decided`, where the study said `stop = "decided"` and something was."""
    found = counted.header.decided
    if not found:
        return
    arms = [arm for one in found for arm in (one.better, one.worse)]
    shown = shown_columns(arms)
    yield Table(
        name="decided", title="Decided comparisons",
        caption=(
            "Pairs of arms that were no longer run once a test that may be looked at after every pair had "
            "decided between them: an e-process on the pairs that only one of both wins; p = min(1, 1/e), "
            "decided at or below the level, which is the study's divided by its comparisons"
            f"{constant_columns(arms, shown)}.",
            "Rates of arms that were stopped lean away from each other: intervals and p-values of other "
            "tables are those of a number of episodes fixed beforehand, and do not hold after stopping.",
        ),
        header=("suite", "better", "worse", "wins", "losses", "pairs", "episodes", "p", "level"),
        rows=tuple(
            (
                varied(one.suite, one.variation), arm_label(one.better, shown), arm_label(one.worse, shown),
                str(one.wins), str(one.losses), str(one.pairs), f"{one.episodes}/{one.planned}",
                p_text(one.p_value), p_text(one.level),
            )
            for one in found
        ),
        text_columns=3, bold=frozenset(),
        numbers_header=(
            "suite", "variation", *(f"better_{c}" for c in ARM_COLUMNS), *(f"worse_{c}" for c in ARM_COLUMNS),
            "wins", "losses", "pairs", "episodes", "planned", "p", "level",
        ),
        numbers=tuple(
            (
                one.suite, one.variation, *arm_numbers(one.better), *arm_numbers(one.worse), one.wins,
                one.losses, one.pairs, one.episodes, one.planned, one.p_value, one.level,
            )
            for one in found
        ),
    )  # fmt: skip
