"""Supply: how many requests a policy answers in a second, by how many it answers together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from vla_bench.policy.base import Policy
from vla_bench.policy.memory import ran_out_of_memory
from vla_bench.policy.profile import profile
from vla_bench.types import Observation

WARM_UP = 2  # calls of each size that set up libraries, caches and graphs


@dataclass(frozen=True, slots=True)
class Supplying:
    """What a policy is to answer while it is timed.

    Attributes:
        pair: Policy and precision.
        instruction: Of the episode that the history is of.
        history: What a simulator would send, as the policy's spec asks.
        batches: Sizes, ascending.
        rounds: Timed calls of each; the sizes take turns.
    """

    pair: tuple[str, str]
    instruction: str
    history: Sequence[Observation]
    batches: Sequence[int]
    rounds: int


@dataclass(frozen=True, slots=True)
class Supply:
    """What a policy answers at one size of batch.

    Attributes:
        batch: Requests that are answered together.
        requests_per_s: Of one device that does nothing else: batch / median time of a call.
        batch_s: Median time of a call.
        device: Where it computes, by torch's name.
    """

    batch: int
    requests_per_s: float
    batch_s: float
    device: str


def supply(asked: Supplying, policy: Policy) -> list[Supply]:
    """Time a policy; a size that memory does not hold, and larger ones, are left out.

    Raises:
        MissingCapabilityError: It serves one episode at a time, and larger batches are asked for.
    """
    from vla_bench.policy.bench.timing import timed

    device = profile(policy).device
    policy.reset(asked.instruction, 0)
    held: list[int] = []
    for batch in asked.batches:
        try:
            for _ in range(WARM_UP):
                timed(policy, [list(asked.history)] * batch, device)
        except Exception as error:
            if held and ran_out_of_memory(error):
                break
            raise
        held.append(batch)
    spent_s: dict[int, list[float]] = {batch: [] for batch in held}
    for _ in range(asked.rounds):
        for batch in held:
            _, phases_ms = timed(policy, [list(asked.history)] * batch, device)
            spent_s[batch].append(phases_ms["total"] / 1e3)
    return [Supply(batch, batch / median(each), median(each), device) for batch, each in spent_s.items()]
