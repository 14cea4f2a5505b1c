"""What the episodes of a plan can show: printed before anything runs.

Per suite and variation, where the report compares arms. The level of a test is divided by the comparisons of
arms there (Holm's first step), so that what is printed is what the report will find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from math import sqrt
from statistics import NormalDist
from typing import Any

from vla_bench.account.statistics.power import (
    FEWEST_EPISODES,
    detectable_paired,
    detectable_unpaired,
    required_equivalence,
    required_pairs,
    required_unpaired,
)
from vla_bench.run.plan import Plan

POWER = 0.8
# Shares of episodes on which two arms end differently, by which power is given: it is not known before.
DISCORDANCES = (0.1, 0.2, 0.3)
DIFFERENCES = (0.05, 0.1, 0.2)
FROM_RATE = 0.8  # of the better of two unpaired arms


@dataclass(frozen=True, slots=True)
class CellPower:
    """What the episodes of one suite and variation can show.

    Attributes:
        episodes: Of each arm.
        comparisons: Pairs of arms.
        half_width: Of the Wilson interval of a rate of 1/2, where it is widest.
        paired: By share of discordant episodes, the smallest difference of two arms that exact McNemar finds
            with 80 % power; None if none.
        unpaired: The smallest drop from 80 % found between arms of different runs; None if none.
    """

    suite: str
    variation: str
    episodes: int
    comparisons: int
    half_width: float
    paired: dict[str, float | None]
    unpaired: float | None


@dataclass(frozen=True, slots=True)
class Required:
    """Episodes of each arm for a difference, with 80 % power.

    Attributes:
        paired: By share of discordant episodes, to find it; None where it cannot be so large.
        as_good: By share of discordant episodes, to show that equal arms differ by less (TOST at 5 %).
        unpaired: To find the drop from 80 % between arms of different runs.
    """

    difference: float
    paired: dict[str, int | None]
    as_good: dict[str, int]
    unpaired: int


def cell_powers(plan: Plan) -> list[CellPower]:
    """What each suite and variation can show, in the order of the plan."""
    episodes: dict[tuple[str, str], set[str]] = {}
    for item in plan.items:
        cell = item.episode.task_id.partition("/")[0], item.episode.variation
        episodes.setdefault(cell, set()).add(item.episode.key)
    z = NormalDist().inv_cdf((1 + plan.study.statistics.confidence) / 2)
    level, comparisons = _level(plan), _comparisons(plan)
    return [
        CellPower(
            *cell,
            n,
            comparisons,
            half_width=z / (2 * sqrt(n + z * z)),
            paired={str(share): _paired(n, share, level) for share in DISCORDANCES},
            unpaired=detectable_unpaired(FROM_RATE, n, level, POWER),
        )
        for cell, n in ((cell, len(own)) for cell, own in episodes.items())
    ]


def required(plan: Plan) -> list[Required]:
    """What differences of 5, 10 and 20 points need at the level of one comparison of the plan."""
    level = _level(plan)
    return [
        Required(
            d,
            {str(s): required_pairs(d, s, level, POWER) if s >= d else None for s in DISCORDANCES},
            {str(s): required_equivalence(d, s, 0.05, POWER) for s in DISCORDANCES},
            required_unpaired(FROM_RATE, FROM_RATE - d, level, POWER),
        )
        for d in DIFFERENCES
    ]


def warnings(powers: list[CellPower]) -> list[str]:
    """Sentences on suites and variations with too few episodes to say much."""
    few = [cell for cell in powers if cell.episodes < FEWEST_EPISODES]
    if not few:
        return []
    named = [
        f"{cell.suite}{f' with {cell.variation}' * bool(cell.variation)}: {cell.episodes}" for cell in few
    ]
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return [f"fewer than {FEWEST_EPISODES} episodes an arm ({', '.join(named[:5])}{more}): rates say little"]


def to_json(plan: Plan) -> dict[str, Any]:
    """All of it as JSON values; differences and rates are shares."""
    powers = cell_powers(plan)
    return {
        "power": POWER,
        "level": _level(plan),
        "unpaired_from": FROM_RATE,
        "cells": [asdict(cell) for cell in powers],
        "required": [asdict(row) for row in required(plan)],
        "warnings": warnings(powers),
    }


def show(plan: Plan, print_table: Callable[[list[dict[str, Any]]], None]) -> None:
    """Print for people what each suite and variation can show, what differences need, and warnings."""
    powers = cell_powers(plan)
    shared = f" ({1 - plan.study.statistics.confidence:.2g} shared by {_comparisons(plan)} comparisons)"
    print(
        f"\nSmallest difference of two arms, in points, that is found with {100 * POWER:.0f} % power; "
        f"level {_level(plan):.2g}{shared * (_comparisons(plan) > 1)}"
    )
    print_table(
        [
            {
                "suite": cell.suite,
                "variation": cell.variation or "none",
                "episodes": cell.episodes,
                "one rate": f"± {100 * cell.half_width:.0f}",
                **{f"paired, {float(s):.0%} differ": _points(value) for s, value in cell.paired.items()},
                f"unpaired, from {FROM_RATE:.0%}": _points(cell.unpaired),
            }
            for cell in powers
        ]
    )
    print("\nEpisodes of each arm to find a difference, or to show arms as good within it")
    print_table(
        [
            {
                "points": f"{100 * row.difference:.0f}",
                **{f"paired, {float(s):.0%} differ": _count(n) for s, n in row.paired.items()},
                f"unpaired, from {FROM_RATE:.0%}": _count(row.unpaired),
                **{f"as good, {float(s):.0%} differ": _count(n) for s, n in row.as_good.items()},
            }
            for row in required(plan)
        ]
    )
    for sentence in warnings(powers):
        print(f"warning: {sentence}")


def _comparisons(plan: Plan) -> int:
    arms = max(row["arms"] for row in plan.summary()[:-1])  # an arm may name its suites
    return arms * (arms - 1) // 2


def _level(plan: Plan) -> float:
    return (1 - plan.study.statistics.confidence) / max(1, _comparisons(plan))


def _points(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


@cache
def _paired(n: int, discordance: float, level: float) -> float | None:
    return detectable_paired(n, discordance, level, POWER)
