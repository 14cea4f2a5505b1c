"""Everything about the speed of a run on this machine: demand, supply, the choice, and what is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vla_bench.policy.base import PolicySpec
from vla_bench.policy.remote.hosted import hosted_pair
from vla_bench.run.executors import Means
from vla_bench.run.hosting import LOOPBACK, Hosting
from vla_bench.run.plan import Plan
from vla_bench.run.throughput.choosing import Proposal, choose, requests_of
from vla_bench.run.throughput.demand import Demands, Look, measure_demand
from vla_bench.run.throughput.looking import (
    cores,
    executed_of,
    first_task,
    horizon,
    spec_of,
    supplies_of,
)
from vla_bench.run.throughput.overhead import Overhead, measure_overhead
from vla_bench.run.throughput.supply import Supply


@dataclass(frozen=True, slots=True)
class Turns:
    """How long to measure.

    Attributes:
        rounds: How often everything has its turn.
        turn_s: How long a turn of simulators is.
        calls: How often a policy answers each size of batch.
    """

    rounds: int = 5
    turn_s: float = 2.0
    calls: int = 10


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was measured, and what follows from it.

    Attributes:
        task: Whose simulators were timed.
        policy, precision: Which was timed, if it has a process of its own.
        shown: What simulators observe.
        chunk_executed: Actions between two observations.
        steps: Horizon of an episode, in policy steps.
        cores: Of this machine that may be used.
        demands: By workers.
        supplies: By batch; empty for a policy that runs within the simulators' processes.
        devices: How many processes of the policy there are.
        proposal: What to run with.
        episodes_per_h: What that is predicted to come to, if no episode ends before its horizon.
        overhead: Of one worker with a policy that costs nothing.
    """

    task: str
    policy: str
    precision: str
    shown: PolicySpec
    chunk_executed: int
    steps: int
    cores: int
    demands: Demands
    supplies: tuple[Supply, ...]
    devices: int
    proposal: Proposal
    episodes_per_h: float
    overhead: Overhead

    def to_json(self) -> dict[str, Any]:
        """What can be printed; the observation that was shown is not."""
        table = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "demands"
        }
        return {
            **{name: _plain(value) for name, value in table.items()},
            "demands": [dataclasses.asdict(each) for each in self.demands.by_workers],
            "start_s": self.demands.start_s,
            "overhead": {
                **dataclasses.asdict(self.overhead), "share": self.overhead.share,
                "other_ms": self.overhead.other_ms, "disk_ms": self.overhead.disk_ms,
            },
        }  # fmt: skip


def bench_throughput(
    plan: Plan,
    *,
    workers: Sequence[int],
    batches: Sequence[int],
    turns: Turns,
    shown: PolicySpec | None = None,
) -> Throughput:
    """Measure the first task of a plan with the policy of its first arm; overhead with all of its episodes.

    Args:
        plan: Of one arm.
        workers: Numbers of simulators side by side.
        batches: Sizes of batches, if the policy has a process of its own.
        turns: How long to measure.
        shown: What simulators observe, if not what the policy wants to see.

    Raises:
        MissingCapabilityError: The policy cannot be run here, or memory does not hold so many simulators.
        VlaBenchError: The plan cannot be run.
    """
    arm, items = plan.items[0].arm, first_task(plan)
    means = Means(max(workers), max_batch=max(batches))
    with Hosting([arm], means, LOOPBACK) as hosting:
        spec = shown or spec_of(arm, hosting)
        look = Look(items, spec, executed_of(arm))
        demands = measure_demand(look, workers, rounds=turns.rounds, turn_s=turns.turn_s)
        supplies = supplies_of(arm, hosting, demands, batches, turns.calls)
        devices = max(1, len(hosting.hosts))
    proposal = choose(demands.by_workers, supplies, devices=devices)
    steps = horizon(items[0])
    has_place = hosted_pair(arm.policy, arm.precision) is not None
    free = measure_overhead(plan, spec if has_place else shown)
    requests = requests_of(steps, look.chunk_executed)
    return Throughput(
        items[0].episode.task_id, arm.policy, arm.precision, spec, look.chunk_executed, steps, cores(),
        demands, supplies, devices, proposal, proposal.episodes_per_h(requests, demands.start_s), free,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
