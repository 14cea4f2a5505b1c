"""A policy that many sessions ask: one thread computes, and what is asked meanwhile becomes a batch."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.policy.base import Policy, act_batch, precision_report
from vla_bench.policy.cards import Card
from vla_bench.policy.memory import ran_out_of_memory
from vla_bench.policy.profile import profile
from vla_bench.policy.remote.native import EpisodeId, Greeting
from vla_bench.policy.remote.server.changes import Changes
from vla_bench.types import ActionChunk, Observation

# how long a request waits for those of other sessions that are open, unless somebody says otherwise
GATHER_S = 0.01
# of so many batches, one is answered one by one as well, to see what answering together changes
LOOKED_AT = 32
log = logging.getLogger("vla_bench.serve")


class BusyError(MissingCapabilityError):
    """A policy that serves one episode at a time, and is in one."""


@dataclass(frozen=True, slots=True)
class _Question:
    session: object
    episode: EpisodeId
    history: Sequence[Observation]
    answer: Future[ActionChunk]


class Served:
    """A loaded policy and the thread that it computes in.

    Args:
        policy: What acts.
        card, precision: What it was built from.
        max_batch: How many requests are answered together, if the policy can; 1 gives the actions of single
            requests exactly, whoever else is asking. It is halved when memory does not hold so many.
        gather_s: How long a request waits for those of other sessions that are open.
        turn: Held while the policy computes, where several share a device.

    Attributes:
        spec: Of the policy.
        chunk_executed: How many actions of a chunk are executed before the next inference.
        stateless: Whether an answer follows from the request alone, so that episodes may take turns.
        max_batch: As it is now.
        changes: What answering together changed, of the batches that were looked at.

    Raises:
        MissingCapabilityError: The policy sees the state of a simulation, which is not sent.
    """

    def __init__(
        self, policy: Policy, card: Card, precision: str, *, max_batch: int = 8,
        gather_s: float = GATHER_S, turn: AbstractContextManager[Any] | None = None,
    ) -> None:  # fmt: skip
        if policy.spec.privileged:
            raise MissingCapabilityError(
                f"policy {card.name!r} sees the state of the simulation, which is not sent to servers"
            )
        self.spec, self.chunk_executed = policy.spec, card.chunk_executed
        self.stateless = hasattr(policy, "act_batch") or hasattr(policy, "act_seeded")
        self.answered = 0
        self._policy, self._card, self._precision = policy, card, precision
        self.max_batch = max_batch if self.stateless else 1
        self._gather_s = gather_s
        self.changes = Changes()
        self._turn = turn or contextlib.nullcontext()
        self._batches = self._asked = self._settled = 0
        self._buckets = profile(policy).device.startswith("cuda")
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._sessions: set[object] = set()
        self._owner: tuple[object, str] | None = None
        self._worker = threading.Thread(target=self._work, name="policy", daemon=True)
        self._worker.start()

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._sessions)

    @property
    def name(self) -> str:
        """Policy and precision, in words."""
        return f"{self._card.name} at {self._precision}"

    def greeting(self, *, chunk_length: int | None = None) -> Greeting:
        """What a client of ours is told; `chunk_length` where an answer has another one than the policy's."""
        spec = replace(self.spec, chunk_length=chunk_length or self.spec.chunk_length)
        return Greeting(self._card.name, self._precision, spec, precision_report(self._policy))

    def enter(self, session: object) -> None:
        """A session is open: a batch waits a moment for it."""
        self._sessions.add(session)

    def leave(self, session: object) -> None:
        """A session is over; a policy that serves one episode at a time is free again."""
        self._sessions.discard(session)
        if self._owner is not None and self._owner[0] is session:
            self._owner = None

    def act(self, session: object, episode: EpisodeId, history: Sequence[Observation]) -> ActionChunk:
        """Answer one request; blocks until it is its turn.

        Raises:
            BusyError: Another session has an episode, and the policy serves one at a time.
            VlaBenchError: What the policy raised.
        """
        question = _Question(session, episode, history, Future())
        self._asked += 1
        self._questions.put(question)
        try:
            return question.answer.result()
        finally:
            self._settled += 1

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return self._asked - self._settled

    def close(self) -> None:
        """Answer what was asked before, and stop."""
        self._questions.put(None)
        self._worker.join()

    def _work(self) -> None:
        while (first := self._questions.get()) is not None:
            batch, over = self._gather(first)
            self._settle(batch)
            if over:
                return

    def _gather(self, first: _Question) -> tuple[list[_Question], bool]:
        """The questions to be answered together, and whether there will be none after them."""
        batch, deadline = [first], time.monotonic() + self._gather_s
        while len(batch) < min(self.max_batch, max(1, self.sessions)):
            try:
                question = self._questions.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if question is None:
                return batch, True
            batch.append(question)
        return batch, False

    def _settle(self, batch: list[_Question]) -> None:
        """Answer a batch; what one of several got wrong is not the fault of the others."""
        try:
            with self._turn:
                chunks = self._chunks(batch)
        except Exception as error:
            if len(batch) > 1:
                if ran_out_of_memory(error):
                    self.max_batch = len(batch) // 2
                    log.warning("%s: memory holds no batch of %d", self.name, len(batch))
                for question in batch:
                    self._settle([question])
                return
            if not isinstance(error, VlaBenchError):
                log.exception("%s failed", self.name)
            batch[0].answer.set_exception(error)
            return
        self.answered += len(batch)
        for question, chunk in zip(batch, chunks, strict=True):
            question.answer.set_result(chunk)

    def _chunks(self, batch: list[_Question]) -> Sequence[ActionChunk]:
        if not self.stateless:
            (question,) = batch
            return [self._in_turn(question)]
        chunks = self._together(batch)
        if len(batch) > 1:
            self._batches += 1
            if self._batches % LOOKED_AT == 1:
                self.changes.add(chunks, [self._together([question])[0] for question in batch])
        return chunks

    def _together(self, batch: list[_Question]) -> list[ActionChunk]:
        """Ask the policy once; on a GPU in one of few sizes, whose recordings are replayed."""
        size = 1 << (len(batch) - 1).bit_length() if self._buckets else len(batch)
        filled = batch + batch[:1] * (size - len(batch))
        histories = [question.history for question in filled]
        seeds = [question.episode.seed for question in filled]
        return act_batch(self._policy, histories, seeds)[: len(batch)]

    def _in_turn(self, question: _Question) -> ActionChunk:
        """Let a policy act that keeps an episode's state."""
        episode, asking = question.episode, (question.session, question.episode.name)
        if self._owner is not None and self._owner[0] is not question.session:
            raise BusyError(f"{self.name} serves one episode at a time, and another session has one")
        if self._owner != asking:
            if episode.request != 0:
                raise BusyError(
                    f"{self.name} was not asked from the beginning of the episode: it cannot go on"
                )
            self._policy.reset(episode.instruction, episode.seed)
            self._owner = asking
        return self._policy.act(question.history)
