"""Arms against each other: paired by episode where they share episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_bench.account.counted import Counted
from vla_bench.account.pairs import Pair
from vla_bench.account.statistics import Estimate, PairedDifference
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    FEW_DIFFER,
    MCNEMAR,
    UNDEFINED,
    Number,
    Table,
    arm_label,
    arm_numbers,
    constant_columns,
    ends,
    few_differ_said,
    marked,
    marks_said,
    p_text,
    points,
    points_interval,
    shown_columns,
    warned,
)


def by_suite(counted: Counted) -> Iterator[Table]:
    """Every two arms on every unvaried suite."""
    if compared := [pair for place in counted.unvaried for pair in place.pairs]:
        yield differences(
            compared, name="comparison_pairs", title="Differences by suite", confidence=counted.confidence
        )


def differences(compared: Sequence[Pair], *, name: str, title: str, confidence: float) -> Table:
    """Every two arms of a suite: risk differences, with the test that fits how they were run."""
    arms = [arm for pair in compared for arm in (pair.first, pair.second)]
    shown = shown_columns(arms)
    unpaired = any(pair.result and not pair.paired for pair in compared)
    return Table(
        name=name, title=title,
        caption=tuple(filter(None, _caption(compared, unpaired, constant_columns(arms, shown), confidence))),
        header=(
            "suite", "first", "second", "episodes", "only first", "only second", "difference",
            f"{100 * confidence:g} % interval", "p", "p Holm", *(["test"] if unpaired else []),
        ),
        rows=tuple(
            (
                pair.place, arm_label(pair.first, shown), arm_label(pair.second, shown), *_texts(pair),
                *([pair.test or UNDEFINED] if unpaired else []),
            )
            for pair in compared
        ),
        text_columns=3, bold=frozenset(),
        numbers_header=(
            "suite", *(f"first_{c}" for c in ARM_COLUMNS), *(f"second_{c}" for c in ARM_COLUMNS),
            "pairs", "first_only", "second_only", "difference", "low", "high", "p", "p_holm", "warning",
            "test", "n_first", "n_second", "left_out", "errors",
        ),
        numbers=tuple(
            (pair.place, *arm_numbers(pair.first), *arm_numbers(pair.second), *_numbers(pair))
            for pair in compared
        ),
    )  # fmt: skip


def _caption(compared: Sequence[Pair], unpaired: bool, constant: str, confidence: float) -> Iterator[str]:
    yield (
        "Estimand: the rate of the first minus that of the second on these tasks, in points, over the "
        f"episodes that count for both, each with the same weight{constant}."
    )
    yield (
        f"{MCNEMAR}; Holm's correction is over the pairs of a suite. The interval is from the bootstrap of "
        "episodes within tasks: about these tasks, not about others."
    )
    if unpaired:
        yield (
            "Arms that share no episode are not paired: Boschloo's exact test (the pooled score test where "
            "arms have more than some 200 episodes) and Newcombe's interval, over all episodes of the tasks "
            "that both ran; their episodes are written as first + second."
        )
    if any(pair.result is None for pair in compared):
        yield "Arms that share no task are not compared."
    if any(pair.paired and pair.left_out for pair in compared):
        yield "Episodes that only one of two paired arms has run are left out; the CSV counts them."
    if any(pair.warning for pair in compared):
        yield few_differ_said()
    if any(pair.errors for pair in compared):
        yield marks_said()


def _texts(pair: Pair) -> tuple[str, ...]:
    """Episodes, successes of only one, difference in points with interval, p and p after Holm."""
    if pair.result is None or pair.p_holm is None:
        return ("0", *(UNDEFINED,) * 6)
    only = (UNDEFINED,) * 2
    episodes = f"{pair.n_first} + {pair.n_second}"
    if pair.paired:
        only, episodes = (str(pair.paired.first_only), str(pair.paired.second_only)), str(pair.paired.n)
    return (
        marked(episodes, pair.errors), *only, points(pair.result.difference),
        warned(points_interval(pair.interval), pair.warning, FEW_DIFFER), p_text(pair.result.p_value),
        p_text(pair.p_holm),
    )  # fmt: skip


def _numbers(pair: Pair) -> tuple[Number, ...]:
    counts: tuple[Number, ...] = (0, None, None)
    if pair.paired:
        counts = (pair.paired.n, pair.paired.first_only, pair.paired.second_only)
    tested: tuple[Number, ...] = (None,) * 5
    if pair.result:
        tested = (pair.result.difference, *ends(pair.interval), pair.result.p_value, pair.p_holm)
    return (
        *counts,
        *tested,
        pair.warning,
        pair.test,
        pair.n_first,
        pair.n_second,
        pair.left_out,
        pair.errors,
    )


def pair_texts(
    result: PairedDifference | None, estimate: Estimate | None, p_holm: float | None, errors: int
) -> tuple[str, ...]:
    """Of a paired difference: pairs, successes of only one, difference in points, interval, p and p Holm."""
    if result is None or estimate is None or p_holm is None:
        return (marked("0", errors), *(UNDEFINED,) * 6)
    counts = (marked(str(result.n), errors), str(result.first_only), str(result.second_only))
    interval = warned(points_interval(estimate.interval), estimate.warning, FEW_DIFFER)
    return (*counts, points(result.difference), interval, p_text(result.p_value), p_text(p_holm))  # fmt: skip


def pair_numbers(
    result: PairedDifference | None, estimate: Estimate | None, p_holm: float | None
) -> tuple[Number, ...]:
    """The same as numbers."""
    if result is None or estimate is None:
        return (0, 0, 0, None, None, None, None, None, "")
    return (
        result.n, result.first_only, result.second_only, result.difference, *ends(estimate.interval),
        result.p_value, p_holm, estimate.warning,
    )  # fmt: skip
