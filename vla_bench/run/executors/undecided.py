"""As many workers as are worth while: decided when the policies of a run are loaded."""

from __future__ import annotations

import logging
from dataclasses import replace

from vla_bench.policy.remote.hosted import hosted_pair
from vla_bench.run.executors import Executor, Means, make_executor
from vla_bench.run.executors.memory import most_workers
from vla_bench.run.executors.units import units_of
from vla_bench.run.hosting import LOOPBACK, Hosting
from vla_bench.run.plan import Plan
from vla_bench.run.throughput.choosing import choose, why
from vla_bench.run.throughput.demand import Look, measure_demand
from vla_bench.run.throughput.looking import cores, executed_of, first_task, spec_of, supplies_of
from vla_bench.types import Arm

# Short, because a run waits for it.
ROUNDS, TURN_S, CALLS = 2, 1.0, 3
# While workers wait for a GPU their cores are idle: more of them than cores can be worth while.
MOST_A_CORE = 2
log = logging.getLogger("vla_bench.run")


class Undecided:
    """What a run is given instead of an executor, so that one is chosen when the policies are loaded.

    Args:
        means: Of the executor, but for the number of workers.
    """

    hosting = True
    host = LOOPBACK

    def __init__(self, means: Means) -> None:
        self.means = means

    def decide(self, plan: Plan, hosting: Hosting) -> Executor:
        """Choose the number of workers by cores and memory and, where policies have a process, by measuring.

        The first policy that has one is measured, on the first task that it plays.

        Raises:
            VlaBenchError: What is measured cannot be played.
        """
        units = len(units_of(plan.items))
        most = max(1, min(units, most_workers() or units))
        arm = next((arm for arm in plan.study.arms if _pair(arm) in hosting.here), None)
        if arm is None:
            count = min(cores(), most)
            log.info("--workers %d: %d cores, memory for %d, %d episodes", count, cores(), most, units)
            return make_executor(None, replace(self.means, workers=count))
        count, reason = self._measured(plan, arm, hosting, most)
        log.info("--workers %d: %s", count, reason)
        return make_executor("process", replace(self.means, workers=count))

    def _measured(self, plan: Plan, arm: Arm, hosting: Hosting, most: int) -> tuple[int, str]:
        """How many workers, and why."""
        sizes = sorted({min(count, most) for count in (1, cores(), MOST_A_CORE * cores())})
        of_arm = replace(plan, items=tuple(item for item in plan.items if item.arm == arm))
        look = Look(first_task(of_arm), spec_of(arm, hosting), executed_of(arm))
        demands = measure_demand(look, sizes, rounds=ROUNDS, turn_s=TURN_S)
        batches = [1 << k for k in range(self.means.max_batch.bit_length())]
        supplies = supplies_of(arm, hosting, demands, batches, CALLS)
        chosen = choose(demands.by_workers, supplies, devices=len(hosting.hosts))
        return chosen.workers, why(chosen)


def _pair(arm: Arm) -> tuple[str, str] | None:
    return hosted_pair(arm.policy, arm.precision)
