"""What a plan and a machine say of what is to be measured."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import read_card
from vla_bench.policy.remote.hosted import hosted_pair
from vla_bench.run.hosting import Hosting
from vla_bench.run.plan import Plan, WorkItem
from vla_bench.run.stage import Policies
from vla_bench.run.throughput.demand import Demands
from vla_bench.run.throughput.supply import Supply, Supplying
from vla_bench.types import Arm


def first_task(plan: Plan) -> list[WorkItem]:
    """The items of a plan's first arm and task."""
    first = plan.items[0]
    same = (first.arm, first.episode.task_id)
    return [item for item in plan.items if (item.arm, item.episode.task_id) == same]


def spec_of(arm: Arm, hosting: Hosting) -> PolicySpec:
    """What a policy wants to see; it is asked where it is, or built here.

    Raises:
        MissingCapabilityError: It cannot be run here.
    """
    policies = Policies(hosting.here)
    try:
        return policies.get(arm.policy, arm.precision).spec
    finally:
        policies.close()


def executed_of(arm: Arm) -> int:
    """How many actions of a chunk an arm executes."""
    return arm.chunk_executed or read_card(arm.policy).chunk_executed


def supplies_of(
    arm: Arm, hosting: Hosting, demands: Demands, batches: Sequence[int], calls: int
) -> tuple[Supply, ...]:
    """How fast a policy in a process of its own answers; nothing for one without.

    Raises:
        VlaBenchError: It cannot be timed, or its process does not live long enough.
    """
    pair = hosted_pair(arm.policy, arm.precision)
    if pair is None or pair not in hosting.here:
        return ()
    sizes = sorted({1, *batches})
    newest = demands.history[-1]
    return tuple(hosting.supply(Supplying(pair, newest.instruction, demands.history, sizes, calls)))


def horizon(item: WorkItem) -> int:
    """Most policy steps of an episode."""
    budget, period_s = item.budget, item.task().policy_period_s
    limits = [budget.steps, None if budget.time_s is None else round(budget.time_s / period_s)]
    return min(limit for limit in limits if limit is not None)


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def doubling(most: int) -> list[int]:
    """1, 2, 4, … and `most`."""
    return sorted({most, *(1 << k for k in range(most.bit_length()))})
