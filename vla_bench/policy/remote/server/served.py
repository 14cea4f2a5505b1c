"""A policy that many sessions ask: one thread computes, and what is asked meanwhile becomes a batch."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.policy.base import Policy, act_batch, precision_report
from vla_bench.policy.cards import Card
from vla_bench.policy.remote.native import EpisodeId, Greeting
from vla_bench.types import ActionChunk, Observation

# how long a request waits for those of other sessions that are open
GATHER_S = 0.01
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
            requests exactly, whoever else is asking.

    Attributes:
        spec: Of the policy.
        chunk_executed: How many actions of a chunk are executed before the next inference.
        stateless: Whether an answer follows from the request alone, so that episodes may take turns.

    Raises:
        MissingCapabilityError: The policy sees the state of a simulation, which is not sent.
    """

    def __init__(self, policy: Policy, card: Card, precision: str, *, max_batch: int = 8) -> None:
        if policy.spec.privileged:
            raise MissingCapabilityError(
                f"policy {card.name!r} sees the state of the simulation, which is not sent to servers"
            )
        self.spec, self.chunk_executed = policy.spec, card.chunk_executed
        self.stateless = hasattr(policy, "act_batch") or hasattr(policy, "act_seeded")
        self.answered = 0
        self._policy, self._card, self._precision = policy, card, precision
        self._max_batch = max_batch if self.stateless else 1
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
        self._questions.put(question)
        return question.answer.result()

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
        batch, deadline = [first], time.monotonic() + GATHER_S
        while len(batch) < min(self._max_batch, max(1, self.sessions)):
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
            chunks = self._chunks(batch)
        except Exception as error:
            if len(batch) > 1:
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
        if self.stateless:
            histories = [question.history for question in batch]
            return act_batch(self._policy, histories, [question.episode.seed for question in batch])
        (question,) = batch
        return [self._in_turn(question)]

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
