"""Chooses how many simulators, how large batches, and how long a request waits for others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from vla_bench.run.throughput.demand import Demand
from vla_bench.run.throughput.supply import Supply

# Simulators must ask for less than this share of what the policy can answer: then requests hardly queue.
SHARE = 0.8
# What is this much better is better; fewer simulators and smaller batches win otherwise.
BETTER = 1.02

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to run with, and what is to be expected of it.

    Attributes:
        workers, batch, wait_s: The choice.
        limit: What keeps it from being faster: the simulators, or the policy.
        requests_per_s: What is predicted; an upper bound, because nothing ever waits in vain.
        demand_per_s: What the simulators would ask for if answers took no time.
        supply_per_s: What the policy answers at that batch; None without one that is timed.
    """

    workers: int
    batch: int
    wait_s: float
    limit: Literal["simulators", "policy"]
    requests_per_s: float
    demand_per_s: float
    supply_per_s: float | None = None

    def episodes_per_h(self, requests: int, start_s: float) -> float:
        """Episodes in an hour: each begins for `start_s` and then asks `requests` times."""
        return 3600 * self.workers / (start_s + requests * self.workers / self.requests_per_s)


def choose(demands: Sequence[Demand], supplies: Sequence[Supply], *, devices: int = 1) -> Proposal:
    """Choose among what was measured.

    The rule: demand(N) < 0.8 · supply(B). Among the pairs that keep it, the one with the most answers a
    second; where none does, the policy is the limit, and all pairs are looked at. N simulators that each
    work for s = N / demand(N) and wait for a batch that takes b = B / supply(B) come to N / (s + b) requests
    a second, and never to more than supply(B) (bounds of a closed queueing network; Denning, Buzen 1978). A
    policy on the simulators' own processor takes their time instead: 1 / (1 / demand + 1 / supply).

    Args:
        demands: Of simulators.
        supplies: Of one device; none where the policy costs nothing.
        devices: How many there are, each with a policy of its own.
    """
    if not supplies:
        best = _first_best([(each.requests_per_s, each) for each in demands])
        return Proposal(best.workers, 1, 0.0, "simulators", best.requests_per_s, best.requests_per_s)
    pairs = [
        (demand, each)
        for demand in sorted(demands, key=lambda demand: demand.workers)
        for each in sorted(supplies, key=lambda each: each.batch)
        if each.batch <= max(1, demand.workers // devices)
    ]
    kept = [(d, s) for d, s in pairs if d.requests_per_s < SHARE * s.requests_per_s * devices]
    demand, chosen = _first_best([(_predicted(*pair, devices), pair) for pair in kept or pairs])
    return Proposal(
        demand.workers, chosen.batch, _wait_s(demand, chosen, devices), "simulators" if kept else "policy",
        _predicted(demand, chosen, devices), demand.requests_per_s, chosen.requests_per_s * devices,
    )  # fmt: skip


def why(proposal: Proposal) -> str:
    """The reason for a choice, in one sentence."""
    asked = f"{proposal.workers} simulators ask for {proposal.demand_per_s:.1f} answers a second"
    if proposal.supply_per_s is None:
        return f"{asked}, and the policy needs no process of its own"
    given = f"the policy gives {proposal.supply_per_s:.1f} in batches of {proposal.batch}"
    if proposal.limit == "simulators":
        return f"{asked}, less than {SHARE:g} of what it could be: {given}"
    return f"{asked}, and the policy is the limit: {given}"


def requests_of(steps: int, chunk_executed: int) -> int:
    """How often an episode of so many steps asks."""
    return math.ceil(steps / chunk_executed)


def _predicted(demand: Demand, supply: Supply, devices: int) -> float:
    """Requests a second that both come to together."""
    if supply.device == "cpu":
        return 1 / (1 / demand.requests_per_s + 1 / supply.requests_per_s)
    thinks_s = demand.workers / demand.requests_per_s
    return min(demand.workers / (thinks_s + supply.batch_s), supply.requests_per_s * devices)


def _wait_s(demand: Demand, supply: Supply, devices: int) -> float:
    """No longer than the others need to ask, and no longer than the answer takes."""
    return min((supply.batch - 1) * devices / demand.requests_per_s, supply.batch_s)


def _first_best(rated: Sequence[tuple[float, T]]) -> T:
    """The first one that no later one betters by more than a little."""
    most = max(rate for rate, _ in rated)
    return next(each for rate, each in rated if rate * BETTER >= most)
