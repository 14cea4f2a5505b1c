"""The processes of the policies: one for each GPU, started again when it dies."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.run.latency.measuring import Measure
from vla_bench.run.obituary import Obituary
from vla_bench.spawning import deaf_to_interrupts
from vla_bench.types import Arm

if TYPE_CHECKING:
    from vla_bench.policy.hub import Taken
    from vla_bench.policy.remote.hosted import Host, Pair
    from vla_bench.run.executors import Means
    from vla_bench.run.policy_process import Served
    from vla_bench.run.throughput.supply import Supply, Supplying

LOOPBACK = "127.0.0.1"
# How often in a row a process may die before it has answered anything.
STARTS = 3
_LOOK_S = 0.1
log = logging.getLogger("vla_bench.run")


def gpus() -> tuple[str, ...]:
    """The GPUs that CUDA would find here, as `CUDA_VISIBLE_DEVICES` names them; torch is not imported."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name for name in named.split(",") if name.strip() not in ("", "-1"))
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
    return tuple(sorted(match[1] for match in found if match))


class Hosting:
    """The policies of a run that have a process of their own; a context.

    Args:
        arms: Of the run.
        means: How large batches may be, and how long an answer may take.
        address: Of this machine, where simulators reach them.

    Attributes:
        hosts: Where the policies are, once for each GPU, or once where there is none.

    Raises:
        VlaBenchError: A policy cannot be loaded.
    """

    def __init__(self, arms: Iterable[Arm], means: Means, address: str) -> None:
        from vla_bench.policy.remote.hosted import hosted_pair

        found = (hosted_pair(arm.policy, arm.precision) for arm in arms)
        pairs = tuple(dict.fromkeys(pair for pair in found if pair is not None))
        self._servers: list[_Server] = []
        if not pairs:
            return
        try:
            for gpu in gpus() or (None,):
                self._servers.append(_Server(pairs, means, gpu, address))
            for server in self._servers:
                server.wait_until_loaded()
        except BaseException:
            self.close()
            raise

    @property
    def hosts(self) -> tuple[Mapping[Pair, Host], ...]:
        """Where the policies are, once for each GPU, or once where there is none."""
        return tuple(server.hosts for server in self._servers if server.hosts)

    @property
    def here(self) -> Mapping[Pair, Host]:
        """Where this process reaches them."""
        return self.hosts[0] if self.hosts else {}

    @property
    def taken(self) -> Mapping[str, Sequence[Taken]]:
        """Policy → the checkpoints that it was loaded from."""
        return self._servers[0].served.taken if self._servers else {}

    @property
    def device(self) -> Mapping[str, Any]:
        """Fields of a session that the device of the policies decides."""
        told = [server.served.device for server in self._servers if server.served.device]
        names = dict.fromkeys(device["device"] for device in told)
        return {**told[0], "device": ", ".join(names)} if told else {}

    def measure(self, asked: Measure) -> bool:
        """Record what a policy takes in its own process; returns False if it has none."""
        if (asked.arm.policy, asked.arm.precision) not in self.here:
            return False
        self._servers[0].ask(asked)
        return True

    def supply(self, asked: Supplying) -> list[Supply]:
        """How fast a policy answers batches in its own process; nothing if that is gone."""
        return self._servers[0].ask(asked)

    def told(self) -> list[str]:
        """What answering several requests together changed, in sentences."""
        from vla_bench.run.policy_process import Tell

        return [line for server in self._servers for line in server.ask(Tell())]

    def close(self) -> None:
        """End all of them."""
        for server in self._servers:
            server.close()

    def __enter__(self) -> Hosting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _KilledError(MissingCapabilityError):
    """A process was ended before it had loaded its policies, and not by what it was about to do."""


class _Server:
    """A process, and the thread that starts it again, at the same ports, when it dies."""

    def __init__(self, pairs: tuple[Pair, ...], means: Means, gpu: str | None, address: str) -> None:
        self._means, self._gpu, self._address = means, gpu, address
        self._token, self._max_batch = secrets.token_hex(16), means.max_batch
        self._ports: dict[Pair, int] = dict.fromkeys(pairs, 0)
        self._answers = multiprocessing.get_context("spawn").RawValue("L", 0)
        self._words = tempfile.TemporaryDirectory(prefix="vla-bench-")
        self._asking = threading.Lock()
        self._closed = False
        self._obituaries: list[Obituary] = []
        self._process, self._connection = self._start()
        self._watcher: threading.Thread | None = None
        self.served: Served

    @property
    def hosts(self) -> Mapping[Pair, Host]:
        from vla_bench.policy.remote.hosted import Host

        return {
            pair: Host(f"{self._address}:{port}", self._token) for pair, port in self._ports.items() if port
        }

    def wait_until_loaded(self) -> None:
        for _ in range(STARTS - 1):
            try:
                self._hear()
                break
            except _KilledError as error:
                log.warning("%s; it is started again", error)
                self._heed_memory()
                self._connection.close()
                self._process, self._connection = self._start()
        else:
            self._hear()
        self._watcher = threading.Thread(target=self._watch, name="policies", daemon=True)
        self._watcher.start()

    def ask(self, question: object) -> list[Any]:
        """What the process answers; nothing if it is gone."""
        with self._asking:
            try:
                self._connection.send(question)
                return self._connection.recv() or []
            except (EOFError, OSError):
                return []

    def close(self) -> None:
        self._closed = True
        self._process.kill()
        while self._watcher is not None and self._watcher.is_alive():
            self._process.kill()  # it may just have been started again
            self._watcher.join(timeout=_LOOK_S)
        self._process.join()
        self._connection.close()
        for obituary in self._obituaries:
            obituary.close()
        self._words.cleanup()

    def _start(self) -> tuple[SpawnProcess, Connection]:
        from vla_bench.run.policy_process import Order, serve

        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        order = Order(
            self._ports, self._token, self._address, self._max_batch, self._means.batch_wait_s,
            self._means.patience_s, Path(self._words.name) / "log", self._answers,
        )  # fmt: skip
        process = context.Process(target=serve, args=(theirs, order, self._gpu), name="policies", daemon=True)
        with deaf_to_interrupts():
            process.start()
        theirs.close()
        return process, ours

    def _hear(self) -> None:
        """Wait until the policies are loaded.

        Raises:
            VlaBenchError: One cannot be.
        """
        from vla_bench.run.executors.worker import OUT_OF_MEMORY

        try:
            heard = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode or 0
            kind = _KilledError if code < 0 or code == OUT_OF_MEMORY else MissingCapabilityError
            raise kind(f"the process of the policies {self._how()}") from None
        if isinstance(heard, VlaBenchError):
            raise heard
        self.served, self._ports = heard, dict(heard.ports)

    def _watch(self) -> None:
        failed, answered, said = 0, 0, ""
        while True:
            self._process.join()
            if self._closed:
                return
            if self._answers.value != answered:
                failed, answered = 0, self._answers.value
            if failed == STARTS:
                break
            self._heed_memory()
            said = said or f"the process of the policies {self._how()}"
            log.warning("%s; it is started again", said)
            failed, said = failed + 1, ""
            with self._asking:
                self._connection.close()
                self._process, self._connection = self._start()
                try:
                    self._hear()
                except VlaBenchError as error:
                    said = str(error)
        said = said or f"the process of the policies {self._how()}"
        self._give_up(f"it was tried {STARTS} times, the last time {said}")

    def _give_up(self, why: str) -> None:
        """Let whoever asks hear why nobody answers, rather than wait."""
        log.error("policies cannot be loaded again: %s", why)
        for port in filter(None, self._ports.values()):
            try:
                self._obituaries.append(Obituary(self._address, port, why))
            except OSError as error:  # somebody else listens there, and will not know the token
                log.error("nobody can be told at port %d: %s", port, error)

    def _heed_memory(self) -> None:
        """Where memory was the reason, the next process has smaller batches."""
        from vla_bench.run.executors.worker import OUT_OF_MEMORY

        if self._process.exitcode == OUT_OF_MEMORY:
            self._max_batch = max(1, self._max_batch // 2)
            log.warning("batches are of up to %d from now on", self._max_batch)

    def _how(self) -> str:
        """How the process ended, in words."""
        from vla_bench.run.executors.watchdog import last_words
        from vla_bench.run.executors.worker import OUT_OF_MEMORY

        code = self._process.exitcode
        if code == OUT_OF_MEMORY:
            return "ran out of memory"
        words = last_words(Path(self._words.name) / "log")
        return f"ended with exit status {code}{f': {words}' if words else ''}"
