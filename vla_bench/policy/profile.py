"""What a policy can tell of its own speed: its work, the plain road to the same actions; and a roofline."""

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
class Part:
    """A module's plain forward pass, on tensors that have been prepared.

    Attributes:
        phase: Where its time belongs, named as in `ActionChunk.timings_ms`.
        call: Runs it once; nothing else is in it.
        times: How often an inference runs it.
    """

    phase: str
    call: Callable[[], object]
    times: int = 1


History = Sequence[Observation]


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates of a device, measured or assumed.

    Attributes:
        device: Its name.
        dtype: Of the product.
        bytes_per_s: Read and written by a copy of one large tensor to another.
        flops_per_s: Of a product of two large square matrices: 2 n³ operations.
    """

    device: str
    dtype: str
    bytes_per_s: float
    flops_per_s: float

    def ideal_ms(self, work: Work) -> float:
        """The roofline: max(flops / flops_per_s, bytes / bytes_per_s), in milliseconds.

        A phase cannot be faster than its arithmetic, nor than the traffic of its weights. Measured, both
        rates are the best that a machine showed. Reading alone can be slightly faster than copying, and
        traffic of small weights that stay in a cache is no traffic: a measured share near or above 1 says so.
        """
        return 1e3 * max(work.flops / self.flops_per_s, work.bytes / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a policy tells of its speed; everything may be missing.

    Attributes:
        device: Where it computes, by torch's name.
        dtype: Type that its products are computed in, by torch's name.
        plain: A policy with the same weights and the same actions by the road that a library offers.
        work: The history of each episode of a batch → work by phase, named as in `ActionChunk.timings_ms`.
        parts: The same → the passes that an inference cannot do without; the whole is compared with their
            sum. What is computed once for an instruction is none of them.
        facts: What is worth knowing of the calls so far.
    """

    device: str = "cpu"
    dtype: str = "float32"
    plain: Policy | None = None
    work: Callable[[Sequence[History]], Mapping[str, Work]] | None = None
    parts: Callable[[Sequence[History]], Sequence[Part]] | None = None
    facts: Callable[[], Mapping[str, str | float]] = dict


class ProfiledPolicy(Policy, Protocol):
    """A policy that tells of its speed."""

    def profile(self) -> Profile:
        """Return what can be told."""
        ...


def profile(policy: Policy) -> Profile:
    """Return what a policy tells of its speed; of one that only acts, nothing."""
    return policy.profile() if hasattr(policy, "profile") else Profile()  # type: ignore[attr-defined]
