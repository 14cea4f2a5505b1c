"""What is wrong with an arm's pacing and latency, known before anything runs."""

from __future__ import annotations

from collections.abc import Collection

from vla_bench.catalog import BudgetTable, Suite
from vla_bench.errors import VlaBenchError, suggest
from vla_bench.policy.cards import Card
from vla_bench.run.latency import LatencySource, latency_source
from vla_bench.run.pacing import Pacing, parse_pacing
from vla_bench.run.pacing.stale import undeclared
from vla_bench.run.study import Study
from vla_bench.types import Arm


def timing_problems(arm: Arm, card: Card | None, suites: Collection[Suite]) -> list[str]:
    """Sentences about what cannot be run; `card` is None where it could not be read."""
    problems: list[str] = []
    pacing, source = None, None
    try:
        pacing = parse_pacing(arm.pacing)
    except VlaBenchError as error:
        problems.append(str(error))
    try:
        source = latency_source(arm.latency)
    except VlaBenchError as error:
        problems.append(str(error))
    if pacing is None or pacing.mode == "blocking":
        return problems
    problems += [undeclared(suite.name) for suite in suites if suite.stale is None]
    if card is None:
        return problems
    executed = arm.chunk_executed or card.chunk_executed
    if pacing.mode == "realtime" and executed != 1:
        problems.append(
            f"pacing 'realtime' executes one action an inference, and policy {card.name!r} {executed}; "
            f"use chunks = [1], chunk_sync or chunk_async"
        )
    if source is not None:
        problems += [
            late for suite in suites if (late := too_late(pacing, source, executed, card, arm.latency, suite))
        ]
    return problems


def budget_problems(arm: Arm, budget: BudgetTable | None, suites: Collection[Suite]) -> list[str]:
    """Sentences about time budgets in which nothing can happen; `budget` replaces those of the suites."""
    problems: list[str] = []
    for suite in suites:
        time_s = (budget or suite.budget).time_s
        if time_s is None:
            continue
        if time_s < suite.policy_period_s - 1e-9:
            problems.append(
                f"budget time:{time_s:g} is over before one policy period of {suite.name} "
                f"({suite.policy_period_s:g} s)"
            )
        elif (first_ns := _first_answer_ns(arm)) >= time_s * 1e9:
            problems.append(
                f"latency {arm.latency!r} is longer than budget time:{time_s:g} of {suite.name}: with pacing "
                f"{arm.pacing!r} the first action comes after {first_ns / 1e9:g} s"
            )
    return problems


def _first_answer_ns(arm: Arm) -> int:
    """How long nothing is there, typically; 0 where the world waits, or where a name is wrong."""
    try:
        pacing, source = parse_pacing(arm.pacing), latency_source(arm.latency)
    except VlaBenchError:  # said elsewhere
        return 0
    waits = pacing.mode == "blocking" or pacing.first_action != "hold"
    return 0 if waits or source is None else source.p50_ns() or 0


def crossed_problems(study: Study) -> list[str]:
    """Sentences about a `[crossed]` table that its study does not run."""
    table = study.crossed
    if table is None:
        return []
    problems: list[str] = []
    latencies = dict.fromkeys(arm.latency for arm in study.arms)
    run = dict.fromkeys(arm.precision for arm in study.arms)
    named = [precision for precision in run if precision in table.latencies]
    if named and table.reference not in named:
        problems.append(
            f"crossed.reference = {table.reference!r} is not among the precisions "
            f"that are run: {', '.join(run)}"
        )
    # with one set of weights, the table's latencies are those of the policy that it stands for
    for precision in named if len(named) > 1 else table.latencies:
        own = table.latencies[precision]
        if study.arms and own not in latencies:
            known = suggest(own, latencies)
            problems.append(f"crossed.latencies.{precision} = {own!r} is no latency of the study{known}")
    return problems


def too_late(
    pacing: Pacing, source: LatencySource, executed: int, card: Card, latency: str, suite: Suite
) -> str:
    """Why chunks arrive too late for `chunk_async`; "" if they do not, or if that is not known.

    With H actions predicted, s executed, and a delay of d policy periods, an answer must be there before the
    next request, d ≤ s, and before the chunk that is running ends. Aligned by index that is s ≤ H − d.
    """
    p95_ns = source.p95_ns()
    if pacing.mode != "chunk_async" or p95_ns is None:
        return ""
    late = -(-p95_ns // round(suite.policy_period_s * 1e9))
    longest = card.chunk_predicted - (late if pacing.align == "index" else 0)
    if late <= executed <= longest:
        return ""
    return (
        f"latency {latency!r} is up to {late} policy periods of {suite.name} (95 %: {p95_ns / 1e6:g} ms), so "
        f"{_range(late, longest)} of the {card.chunk_predicted} predicted actions can be executed with "
        f"pacing {str(pacing)!r}; policy {card.name!r} executes {executed}"
    )


def _range(low: int, high: int) -> str:
    """`4 to 6`, or `no number` where there is none between."""
    return "no number" if low > high else f"{low} to {high}"
