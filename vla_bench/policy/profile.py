"""What a policy can tell of its own speed: the work it has to do, and the plain road to the same actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vla_bench.policy.base import Policy
from vla_bench.types import Observation


@dataclass(frozen=True, slots=True)
class Work:
    """What a phase cannot do without.

    Attributes:
        flops: Multiplications and additions of its products.
        bytes: What it has to read: weights, as they are stored, and caches.
    """

    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Profile:
    """What a policy tells of its speed; everything may be missing.

    Attributes:
        device: Where it computes, by torch's name.
        dtype: Type that its products are computed in, by torch's name.
        plain: A policy with the same weights and the same actions by the road that a library offers.
        work: Observations, one of each episode of a batch → work by phase, named as in
            `ActionChunk.timings_ms`.
        facts: What is worth knowing of the calls so far.
    """

    device: str = "cpu"
    dtype: str = "float32"
    plain: Policy | None = None
    work: Callable[[Sequence[Observation]], Mapping[str, Work]] | None = None
    facts: Callable[[], Mapping[str, str | float]] = dict


class ProfiledPolicy(Policy, Protocol):
    """A policy that tells of its speed."""

    def profile(self) -> Profile:
        """Return what can be told."""
        ...


def profile(policy: Policy) -> Profile:
    """Return what a policy tells of its speed; of one that only acts, nothing."""
    return policy.profile() if hasattr(policy, "profile") else Profile()  # type: ignore[attr-defined]
