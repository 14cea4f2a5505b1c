"""What the process of the policies does: loads them, serves them, and measures them when it is asked to."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.policy.base import Policy
from vla_bench.policy.cards import build_policy, read_card
from vla_bench.policy.hub import Taken, noting
from vla_bench.policy.memory import ran_out_of_memory
from vla_bench.policy.profile import profile
from vla_bench.policy.remote.hosted import PROTOCOL, Pair
from vla_bench.run.executors.watchdog import Watchdog
from vla_bench.run.executors.worker import OUT_OF_MEMORY
from vla_bench.run.latency.measuring import Measure, measure
from vla_bench.run.provenance import device_used
from vla_bench.run.throughput.supply import Supply, Supplying, supply
from vla_bench.spawning import leave_signals_to_main


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to serve.

    Attributes:
        pairs: Policies and precisions, with the ports to listen at; 0 takes a free one.
        token: What clients must show.
        host: Address of this machine.
        max_batch: How many requests are answered together.
        batch_wait_s: How long a request waits for others.
        patience_s: How long an answer may take before the process is ended.
        log: Where its last words go.
        answers: Shared with the main process; its `value` grows with every answer.
    """

    pairs: Mapping[Pair, int]
    token: str
    host: str
    max_batch: int
    batch_wait_s: float
    patience_s: float
    log: Path
    answers: Any


@dataclass(frozen=True, slots=True)
class Served:
    """What came of an order.

    Attributes:
        ports: Where each policy is served; one that serves one episode at a time, or that this machine cannot
            run, is not among them.
        taken: Policy → the checkpoints that it was loaded from.
        device: Fields of a session that the device of the policies decides.
    """

    ports: Mapping[Pair, int] = field(default_factory=dict)
    taken: Mapping[str, Sequence[Taken]] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tell:
    """A request to say what answering together changed, and which batches memory holds."""


def serve(connection: Connection, order: Order, gpu: str | None) -> None:
    """The main function of the process; it ends when the other end of the connection is closed."""
    leave_signals_to_main()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        with contextlib.ExitStack() as closing:
            _Process(connection, order, closing).answer()
    except (EOFError, BrokenPipeError):
        return
    except VlaBenchError as error:
        connection.send(error)
    except Exception as error:
        if ran_out_of_memory(error):
            raise SystemExit(OUT_OF_MEMORY) from error
        raise


class _Turn:
    """Held while a policy computes; counts what came of it, where the main process sees it."""

    def __init__(self, answers: Any) -> None:
        self._lock, self._answers = threading.Lock(), answers

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: object, *_: object) -> None:
        self._answers.value += kind is None
        self._lock.release()


class _Process:
    def __init__(self, connection: Connection, order: Order, closing: contextlib.ExitStack) -> None:
        self._connection, self._order, self._closing = connection, order, closing
        self._turn = _Turn(order.answers)
        self._policies: dict[Pair, Policy] = {}
        self._served: dict[Pair, Any] = {}
        connection.send(self._load())
        closing.enter_context(Watchdog(self._progress, order.patience_s, order.log))

    def answer(self) -> None:
        """Do what is asked until nobody can ask any more."""
        while True:
            asked: Measure | Supplying | Tell = self._connection.recv()
            try:
                answer = self._answer(asked)
            except VlaBenchError as error:
                answer = error
            self._connection.send(answer)

    def _answer(self, asked: Measure | Supplying | Tell) -> list[Any]:
        match asked:
            case Tell():
                return self._told()
            case Supplying():
                return self._supply(asked)
            case Measure():
                return self._measured(asked)

    def _load(self) -> Served:
        from vla_bench.policy.remote.server import served as serving
        from vla_bench.policy.remote.server.endpoint import listen, running

        ports: dict[Pair, int] = {}
        checkpoints: dict[str, Sequence[Taken]] = {}
        for pair, port in self._order.pairs.items():
            card = read_card(pair[0])
            try:
                with noting() as taken:
                    policy = build_policy(card, pair[1])
            except MissingCapabilityError:
                if port:  # it was served before
                    raise
                continue  # whoever asks for it will hear why
            served = serving.Served(
                policy, card, pair[1], max_batch=self._order.max_batch,
                gather_s=self._order.batch_wait_s, turn=self._turn,
            )  # fmt: skip
            self._closing.callback(served.close)
            if not served.stateless:
                continue
            endpoint = listen(served, PROTOCOL, host=self._order.host, port=port, token=self._order.token)
            ports[pair] = self._closing.enter_context(running(endpoint)).port
            self._policies[pair], self._served[pair] = policy, served
            checkpoints[pair[0]] = taken
        used = device_used(profile(policy).device for policy in self._policies.values())
        return Served(ports, checkpoints, used)

    def _measured(self, asked: Measure) -> list[Any]:
        with self._turn:
            measure(asked, self._policies[asked.arm.policy, asked.arm.precision])
        return []

    def _supply(self, asked: Supplying) -> list[Supply]:
        with self._turn:
            return supply(asked, self._policies[asked.pair])

    def _told(self) -> list[str]:
        return [
            f"{served.name}: {served.changes}; batches of up to {served.max_batch}"
            for served in self._served.values()
            if served.changes.compared
        ]

    def _progress(self) -> object:
        """Answers so far, or None while nobody waits for one."""
        waiting = [served for served in self._served.values() if served.waiting]
        return [served.answered for served in self._served.values()] if waiting else None
