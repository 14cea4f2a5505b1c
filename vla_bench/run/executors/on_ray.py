"""Workers as Ray's actors: on this machine, or on a cluster that shares the results folder."""

from __future__ import annotations

import functools
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import ray
from ray.exceptions import RayActorError

from vla_bench import catalog
from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.run.executors import Means
from vla_bench.run.executors.crew import Crew, Died, Event, Failed, Finished, Hand
from vla_bench.run.executors.units import Unit
from vla_bench.run.executors.watchdog import last_words
from vla_bench.run.executors.worker import Worker, log_of
from vla_bench.run.hosting import LOOPBACK
from vla_bench.run.plan import WorkItem
from vla_bench.run.records import Record
from vla_bench.run.stage import Job, Policies

_POLL_S = 1.0
_CONNECT_S = 5.0
# What decides on every machine where things are found and how they are drawn.
VARIABLES = (
    catalog.LIBERO_VARIABLE, catalog.TASKS_DIR_VARIABLE, catalog.POLICIES_DIR_VARIABLE, "MUJOCO_GL",
    "PYTHONPATH",
)  # fmt: skip
ONE_THREAD = ("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class OnRay:
    """Actors of one processor each.

    Attributes:
        hosting: Policies with weights have a process of their own on this machine.

    Args:
        means: How many actors, and the address of their cluster; without one, Ray is started here.

    Raises:
        MissingCapabilityError: Nobody answers at the address.
    """

    hosting = True

    def __init__(self, means: Means) -> None:
        _require_somebody(means.address)
        self.means = means

    @property
    def host(self) -> str:
        """Address at which actors reach the policies of this machine."""
        if self.means.address is None:
            return LOOPBACK
        self._connect()
        return ray.util.get_node_ip_address()

    def run(
        self, job: Job, units: Sequence[Unit], policies: Policies, needed: Callable[[WorkItem], bool]
    ) -> Generator[Record]:
        """Play units; see `Executor`."""
        self._connect()
        names = [str(number) for number in range(self.means.workers)]
        try:
            yield from Crew(job, names, _Cluster(job, names, self.means.patience_s), needed).play(units)
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        given = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        environment: dict[str, Any] = {"env_vars": given | dict.fromkeys(ONE_THREAD, "1")}
        here = {"num_cpus": self.means.workers, "include_dashboard": False}
        try:
            ray.init(
                address=self.means.address, runtime_env=environment, log_to_driver=False,
                logging_level=logging.ERROR, **(here if self.means.address is None else {}),
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            said = str(error).strip().splitlines()[0]
            raise MissingCapabilityError(
                f"no Ray cluster answers at {self.means.address or 'this machine'}: {said}"
            ) from error


def _require_somebody(address: str | None) -> None:
    """See that somebody listens where a cluster is said to be; Ray itself tries for minutes.

    Raises:
        MissingCapabilityError: Nobody does.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:  # this machine, or what Ray finds by itself
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise MissingCapabilityError(f"no Ray cluster answers at {address}: {error}") from error


@ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)
class _Actor:
    """A worker; what it raises is its answer."""

    def __init__(self, job: Job, name: str, number: int, patience_s: float) -> None:
        self._begin = functools.partial(Worker, job, name, number, patience_s)
        self._worker: Worker | None = None

    def play(self, item: WorkItem) -> Record | str:
        try:
            self._worker = self._worker or self._begin()  # here, where a file that is locked can be said
            (record,) = self._worker.play(Unit((item,)))
        except VlaBenchError as error:
            return str(error)
        return record


class _Cluster:
    def __init__(self, job: Job, names: Sequence[str], patience_s: float) -> None:
        self._job, self._names, self._patience_s = job, names, patience_s

    def hire(self, name: str) -> Hand:
        arguments = (self._job, name, self._names.index(name), self._patience_s)
        return _Hand(name, cast(Any, _Actor).remote(*arguments), self._job)

    def events(self, hands: Sequence[Hand]) -> list[tuple[Hand, Event]]:
        playing = {hand.answer: hand for hand in cast(Sequence[_Hand], hands) if hand.answer is not None}
        if not playing:
            return []
        ready, _ = ray.wait(list(playing), num_returns=1, timeout=_POLL_S)
        return [(playing[answer], event) for answer in ready for event in playing[answer].hear()]


class _Hand:
    def __init__(self, name: str, actor: Any, job: Job) -> None:
        self.name, self._actor, self._job = name, actor, job
        self._left: deque[WorkItem] = deque()
        self.answer: Any = None

    def give(self, unit: Unit) -> None:
        self._left.extend(unit.items)
        self._continue()

    def _continue(self) -> None:
        """Let the next item be played; items are handed over one by one, so that the rest can be dropped."""
        self.answer = self._actor.play.remote(self._left.popleft())

    def hear(self) -> list[Event]:
        answer, self.answer = self.answer, None
        try:
            heard: Record | str = cast(Any, ray.get(answer))
        except RayActorError as error:
            words = last_words(log_of(self._job.folder, self.name))
            return [
                Died(f"as Ray says: {str(error).strip().splitlines()[0]}{f' ({words})' if words else ''}")
            ]
        if isinstance(heard, str):
            return [Failed(heard)]
        if self._left:
            self._continue()
            return [heard]
        return [heard, Finished()]

    def dismiss(self) -> None:
        self._left.clear()

    def kill(self) -> None:
        ray.kill(self._actor)
