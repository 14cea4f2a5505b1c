"""Workers as processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from vla_bench.errors import VlaBenchError
from vla_bench.run.executors import Means
from vla_bench.run.executors.crew import Crew, Died, Event, Failed, Finished, Hand
from vla_bench.run.executors.memory import require_memory
from vla_bench.run.executors.units import Unit
from vla_bench.run.executors.watchdog import last_words
from vla_bench.run.executors.worker import (
    OUT_OF_MEMORY,
    Worker,
    log_of,
)
from vla_bench.run.hosting import LOOPBACK
from vla_bench.run.plan import WorkItem
from vla_bench.run.records import Record
from vla_bench.run.stage import Job, Policies
from vla_bench.spawning import deaf_to_interrupts, leave_signals_to_main, one_thread_each

_POLL_S = 1.0


class Processes:
    """Several workers on this machine.

    Attributes:
        hosting: Policies with weights have a process of their own.

    Args:
        means: How many, and how patient.
        prefix: Before the numbers that are the workers' names.

    Raises:
        MissingCapabilityError: This machine has not memory enough for so many workers.
    """

    hosting = True
    host = LOOPBACK

    def __init__(self, means: Means, prefix: str = "") -> None:
        require_memory(means.workers)
        self.means, self._prefix = means, prefix

    def run(
        self, job: Job, units: Sequence[Unit], policies: Policies, needed: Callable[[WorkItem], bool]
    ) -> Generator[Record]:
        """Play units; see `Executor`."""
        names = [f"{self._prefix}{number}" for number in range(self.means.workers)]
        transport = _Local(job, names, self.means.patience_s)
        yield from Crew(job, names, transport, needed).play(units)


class _Local:
    """Spawns processes: one that was forked would share an OpenGL context that does not survive it."""

    def __init__(self, job: Job, names: Sequence[str], patience_s: float) -> None:
        self._job, self._names, self._patience_s = job, names, patience_s
        self._context = multiprocessing.get_context("spawn")
        one_thread_each()

    def hire(self, name: str) -> Hand:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._job, name, self._names.index(name), self._patience_s)
        process = self._context.Process(target=_work, args=arguments, name=f"worker {name}", daemon=True)
        with deaf_to_interrupts():
            process.start()
        theirs.close()
        return _Process(name, process, ours, self._job)

    def events(self, hands: Sequence[Hand]) -> list[tuple[Hand, Event]]:
        by_connection = {hand.connection: hand for hand in cast(Sequence[_Process], hands)}
        ready = wait(list(by_connection), timeout=_POLL_S)
        return [(hand, hand.hear()) for hand in (by_connection[cast(Connection, c)] for c in ready)]


class _Process:
    def __init__(self, name: str, process: BaseProcess, connection: Connection, job: Job) -> None:
        self.name, self.connection = name, connection
        self._process, self._job = process, job

    def give(self, unit: Unit) -> None:
        with contextlib.suppress(OSError):  # it is gone, which its next event says
            self.connection.send(unit)

    def hear(self) -> Event:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return Died(_how(self._process.exitcode, last_words(log_of(self._job.folder, self.name))))

    def dismiss(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _how(code: int | None, words: str) -> str:
    """How a process ended, in words."""
    if code == OUT_OF_MEMORY:
        return "because memory ran out"
    said = f": {words}" if words else ""
    if code is not None and code < 0:
        return f"by {signal.Signals(-code).name}{said}"
    return f"with exit status {code}{said}"


def _work(connection: Connection, job: Job, name: str, number: int, patience_s: float) -> None:
    """The main function of a worker."""
    leave_signals_to_main()
    try:
        with Worker(job, name, number, patience_s) as worker:
            while (unit := connection.recv()) is not None:
                for record in worker.play(unit):
                    connection.send(record)
                    if connection.poll():  # nobody speaks to a worker that plays but to dismiss it
                        connection.send(Finished())
                        return
                connection.send(Finished())
    except VlaBenchError as error:
        connection.send(Failed(str(error)))
    except (EOFError, BrokenPipeError):
        return  # the main process is gone
