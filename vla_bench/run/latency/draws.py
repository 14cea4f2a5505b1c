"""What an inference takes on the virtual clock.

Draw i of an episode is keyed by the episode and i, never by arm, worker or order: arms share their draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_bench import seeding
from vla_bench.errors import VlaBenchError

# (index of the inference in its episode, time in which the policy really answered, ns) → its delay in ns
Delays = Callable[[int, int], int]

# Consecutive calls of a trace that are drawn together, so that slow spells stay spells.
BLOCK = 16
P95 = 0.95
# Beyond this a delay is a mistake of units: an hour.
MOST_NS = 3_600_000_000_000


class LatencySource(Protocol):
    """Where delays come from."""

    @property
    def deterministic(self) -> bool:
        """Whether the same episode has the same delays again."""
        ...

    @property
    def content(self) -> str:
        """What decides the delays beside the source's name; "" if nothing does."""
        ...

    def delays(self, episode_key: str) -> Delays:
        """The delays of one episode."""
        ...

    def p50_ns(self) -> int | None:
        """The median; None where that is not known before the run."""
        ...

    def p95_ns(self) -> int | None:
        """95 % of the delays are not longer; None where that is not known before the run."""
        ...


def no_delay(call: int, spent_ns: int) -> int:
    """Every answer is there at once."""
    return 0


@dataclass(frozen=True, slots=True)
class Constant:
    """Every inference takes as long."""

    delay_ns: int
    deterministic = True
    content = ""

    def delays(self, episode_key: str) -> Delays:
        """See `LatencySource`."""
        return lambda call, spent_ns: self.delay_ns

    def p50_ns(self) -> int:
        """See `LatencySource`."""
        return self.delay_ns

    def p95_ns(self) -> int:
        """See `LatencySource`."""
        return self.delay_ns


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Delay = shift + median · exp(sigma · z) with a standard normal z; sigma = 0 is a constant.

    Attributes:
        shift_ns: No delay is shorter.
        median_ns: Of what comes on top.
        sigma: Spread of its logarithm.
        scale: Factor of the whole: of a faster or slower device.
    """

    shift_ns: int
    median_ns: int
    sigma: float
    scale: float = 1.0
    content: str = ""
    deterministic = True

    def delays(self, episode_key: str) -> Delays:
        """See `LatencySource`."""
        return lambda call, spent_ns: self._at(_generator(episode_key, call).standard_normal())

    def p50_ns(self) -> int:
        """See `LatencySource`."""
        return self._at(0.0)

    def p95_ns(self) -> int:
        """See `LatencySource`."""
        return self._at(NormalDist().inv_cdf(P95))

    def _at(self, z: float) -> int:
        return round(self.scale * (self.shift_ns + self.median_ns * math.exp(self.sigma * z)))


@dataclass(frozen=True, slots=True)
class Trace:
    """Delays that were measured.

    Attributes:
        samples_ns: (N,) in the order of their calls.
        draw: `iid`: each call draws one; `sequential`: as they were, from a drawn place on, over again;
            `block`: spells of 16 calls as they were, each from a drawn place.
        scale: Factor of all: of a faster or slower device.
        content: Digest of the samples.
    """

    samples_ns: NDArray[np.int64]
    draw: str = "iid"
    scale: float = 1.0
    content: str = ""
    deterministic = True

    def delays(self, episode_key: str) -> Delays:
        """See `LatencySource`."""
        place = DRAWS[self.draw]
        count = len(self.samples_ns)
        return lambda call, spent_ns: self._scaled(self.samples_ns[place(episode_key, call, count)])

    def p50_ns(self) -> int:
        """See `LatencySource`."""
        return self._scaled(np.median(self.samples_ns))

    def p95_ns(self) -> int:
        """See `LatencySource`."""
        return self._scaled(np.quantile(self.samples_ns, P95, method="higher"))

    def _scaled(self, delay_ns: float) -> int:
        return round(self.scale * int(delay_ns))


@dataclass(frozen=True, slots=True)
class Live:
    """What the policy took on this machine: results differ from run to run."""

    deterministic = False
    content = ""

    def delays(self, episode_key: str) -> Delays:
        """See `LatencySource`."""
        return lambda call, spent_ns: spent_ns

    def p50_ns(self) -> None:
        """See `LatencySource`."""
        return

    def p95_ns(self) -> None:
        """See `LatencySource`."""
        return


def _iid(episode_key: str, call: int, count: int) -> int:
    return int(_generator(episode_key, call).integers(count))


def _sequential(episode_key: str, call: int, count: int) -> int:
    return (int(_generator(episode_key, 0).integers(count)) + call) % count


def _block(episode_key: str, call: int, count: int) -> int:
    block, within = divmod(call, BLOCK)
    return (int(_generator(episode_key, block).integers(count)) + within) % count


DRAWS = {"iid": _iid, "sequential": _sequential, "block": _block}


def _generator(episode_key: str, draw: int) -> np.random.Generator:
    return seeding.generator("latency", episode_key, draw)


def phase_ticks(episode_key: str, ticks_per_period: int) -> int:
    """How many ticks the world is ahead of the policy's clock in an episode whose phase is drawn."""
    return int(seeding.generator("latency", episode_key, "phase").integers(ticks_per_period))


def nanoseconds(ms: float, where: str) -> int:
    """Milliseconds that were read as a delay in whole nanoseconds.

    Raises:
        VlaBenchError: It is missing, negative, not finite, or longer than an hour.
    """
    if not math.isfinite(ms) or not 0 <= ms * 1e6 <= MOST_NS:
        raise VlaBenchError(f"{where}: {ms} ms is no delay; it is between 0 ms and an hour")
    return round(ms * 1e6)
