"""The virtual clock, and the policy server that it times.

Time is whole nanoseconds since the policy's clock began. Nothing here reads the host's clock, so that a
result does not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vla_bench.run.pacing.options import FirstAction
from vla_bench.types import ActionChunk, Observation

if TYPE_CHECKING:
    from vla_bench.run.rollout import Answer, Rollout

Act = Callable[[Sequence[Observation]], ActionChunk]


def whole_ns(value: int, what: str) -> int:
    """Return a span of time in nanoseconds as an int.

    Raises:
        TypeError: It is no whole number: seconds as a float would make results depend on rounding.
        ValueError: It is negative.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{what} is {value!r}; the clock takes whole nanoseconds, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{what} is {value} ns: time does not run backwards")
    return int(value)


@dataclass(frozen=True, slots=True)
class Request:
    """A question to the policy that is being thought about.

    Attributes:
        observed_ns: When its observation was made, which is when it was sent.
        done_ns: When the answer is there.
        answer: What it will be.
    """

    observed_ns: int
    done_ns: int
    answer: Answer

    def __post_init__(self) -> None:
        whole_ns(self.observed_ns, "the time of an observation")
        whole_ns(self.done_ns - self.observed_ns, "a delay")


class Server:
    """A serial policy server: one request in flight, none queued, each with the newest observation.

    The policy computes when it is asked, and its answer is kept until the clock says that it is done.

    Args:
        run: Whose policy, clock and delays these are.
        first_action: What the first answer costs.
    """

    def __init__(self, run: Rollout, first_action: FirstAction) -> None:
        self._run, self._first_action = run, first_action
        self._pending: Request | None = None
        self.observed_ns: int | None = None

    @property
    def is_free(self) -> bool:
        """Whether it would take a request."""
        return self._pending is None

    def submit(self, act: Act | None = None) -> None:
        """Observe now and ask; `act` replaces the policy's."""
        run = self._run
        answer, delay_ns = run.ask(act)
        if self.observed_ns is None and self._first_action != "hold":
            run.frozen_ns += delay_ns if self._first_action == "wait" else 0
            delay_ns = 0
        self.observed_ns = run.now_ns
        self._pending = Request(run.now_ns, run.now_ns + delay_ns, answer)

    def deliver(self) -> Request | None:
        """Return the request whose answer is there by now, if one is."""
        request = self._pending
        if request is None or request.done_ns > self._run.now_ns:
            return None
        self._pending = None
        return request
