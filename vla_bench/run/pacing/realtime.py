"""The world goes on while the policy thinks.

Inside tick k, at k · tick: an answer that is done is delivered; a request is sent if one is due; a command is
chosen; the simulation advances; success and budgets are tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.base import continues_chunks
from vla_bench.run.pacing.clock import Act, Server
from vla_bench.run.pacing.options import Pacing
from vla_bench.run.pacing.stale import stale_rule
from vla_bench.run.pacing.timelines import MERGES, Indexed, Restarted, Timeline
from vla_bench.types import Array

if TYPE_CHECKING:
    from vla_bench.run.rollout import Rollout

# How many of the last delays a policy that continues chunks is told the largest of (arXiv 2506.07339).
REMEMBERED_DELAYS = 10


def realtime(run: Rollout, pacing: Pacing) -> None:
    """One action an inference: ask once a period, or when the last answer is there; apply it on arrival."""
    _Loop(run, pacing, Restarted(run.ticks_per_step, 1), _Loop.period_is_over).play()


def chunk_sync(run: Rollout, pacing: Pacing) -> None:
    """Execute some actions of a chunk, then ask; the robot has nothing fresh until the answer is there."""
    timeline = Restarted(run.ticks_per_step, run.chunk_executed)
    _Loop(run, pacing, timeline, _Loop.is_used_up).play()


def chunk_async(run: Rollout, pacing: Pacing) -> None:
    """Ask every `chunk_executed` periods and go on with the chunk before until the answer is there."""
    if pacing.align == "restart":
        timeline = Restarted(run.ticks_per_step, run.policy.spec.chunk_length)
        _Loop(run, pacing, timeline, _Loop.period_is_over).play()
    else:
        timeline = Indexed(run.ticks_per_step, MERGES[pacing.merge])
        _Loop(run, pacing, timeline, _Loop.period_is_over_at_a_slot).play()


class _Loop:
    """One episode in real time.

    Args:
        run: The episode.
        pacing: Its options.
        timeline: Which action begins when.
        is_due: Whether a request is to be sent; asked when the server is free.
    """

    def __init__(
        self, run: Rollout, pacing: Pacing, timeline: Timeline, is_due: Callable[[_Loop], bool]
    ) -> None:
        self._run, self._pacing, self._timeline, self._is_due = run, pacing, timeline, is_due
        self._server = Server(run, pacing.first_action)
        self._stale = stale_rule(run.simulation.task)
        self._last: Array | None = None
        self._fresh_until = 0  # tick at which the slot of the last action ends
        self._delays: list[int] = []  # in slots

    def play(self) -> None:
        """Run to the end."""
        run, last = self._run, self._run.simulation.task.budget.steps
        while not run.ended:
            more = last is None or run.steps < last
            if more:
                self._exchange()
            run.tick_in_time(self._command() if more else None)
            # the last action of a budget is given its period too, as all before it were
            if not run.ended and last is not None and run.steps >= last and run.ticks >= self._fresh_until:
                run.ended_by = "steps"

    def period_is_over(self) -> bool:
        """Whether as much time as `chunk_executed` actions take has gone by since the last observation."""
        observed_ns = self._server.observed_ns
        wait_ns = self._run.chunk_executed * self._run.ticks_per_step * self._run.simulation.task.tick_ns
        return observed_ns is None or self._run.now_ns - observed_ns >= wait_ns

    def period_is_over_at_a_slot(self) -> bool:
        """As `period_is_over`, at a tick where slots begin."""
        return self._run.ticks % self._run.ticks_per_step == 0 and self.period_is_over()

    def is_used_up(self) -> bool:
        """Whether all actions have been executed."""
        now = self._run.ticks
        return now >= self._fresh_until and self._timeline.leftover(now) is None

    def _exchange(self) -> None:
        """Take an answer, ask, and take the answer if it is there at once."""
        self._receive()
        if self._server.is_free and self._is_due(self):
            self._server.submit(self._continuing())
            self._receive()

    def _receive(self) -> None:
        request = self._server.deliver()
        if request is None:
            return
        run = self._run
        tick_ns, now = run.simulation.task.tick_ns, run.ticks
        observed = request.observed_ns // tick_ns
        applied = self._timeline.accept(now, observed, request.answer.actions)
        idle = max(0, applied - self._fresh_until)
        run.take(
            request.answer, observed_ns=request.observed_ns, delay_ns=request.done_ns - request.observed_ns,
            age_ns=(applied - observed) * tick_ns, stale_ns=idle * tick_ns,
        )  # fmt: skip
        self._delays.append(-(-(now - observed) // run.ticks_per_step))

    def _command(self) -> Array | None:
        run = self._run
        command = self._timeline.command(run.ticks)
        if command is not None:
            self._last, self._fresh_until = command, run.ticks + run.ticks_per_step
            run.steps += 1
            return command
        idle = run.ticks - self._fresh_until
        if idle < 0 or idle % run.ticks_per_step:
            return None
        return self._stale(self._last, np.array(run.simulation.task.settle_action))

    def _continuing(self) -> Act | None:
        """How to ask a policy that is to continue what is left of its last chunk."""
        leftover = self._timeline.leftover(self._run.ticks) if self._pacing.merge == "rtc" else None
        if leftover is None:
            return None
        policy, delay = self._run.policy, max(self._delays[-REMEMBERED_DELAYS:])
        if not continues_chunks(policy):
            raise MissingCapabilityError(f"{type(policy).__name__} cannot continue a chunk that is running")
        return lambda observations: policy.act_continuing(observations, leftover, delay)
