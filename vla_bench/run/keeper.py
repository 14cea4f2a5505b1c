"""A process of policies, started again when it dies, at the same ports, so that whoever asks only waits."""

from __future__ import annotations

import logging
import multiprocessing
import secrets
import tempfile
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.run.obituary import Obituary
from vla_bench.spawning import deaf_to_interrupts

if TYPE_CHECKING:
    from vla_bench.policy.remote.hosted import Host, Pair
    from vla_bench.run.executors import Means
    from vla_bench.run.policy_process import Served

# Before a process is started that answered nothing since the last start: it is, as often as there are pauses.
PAUSES_S = (0.0, 1.0, 3.0)
_LOOK_S = 0.1
log = logging.getLogger("vla_bench.run")


class _KilledError(MissingCapabilityError):
    """A process was ended before it had loaded its policies, and not by what it was about to do."""


class Keeper:
    """A process of policies, and the thread that starts it again when it dies.

    How often it may die before it answers is counted here; those who ask wait until it is back, or are told
    that it will not be.

    Args:
        pairs: What it loads.
        means: How large batches may be, and how long loading and an answer may take.
        gpu: Which it uses, if any.
        address: Of this machine.

    Attributes:
        served: What came of loading.
        gone: Why the process is not started any more; "" while it is.
    """

    def __init__(self, pairs: tuple[Pair, ...], means: Means, gpu: str | None, address: str) -> None:
        self._means, self._gpu, self._address = means, gpu, address
        self._token, self._max_batch = secrets.token_hex(16), means.max_batch
        self._ports: dict[Pair, int] = dict.fromkeys(pairs, 0)
        self._answers = multiprocessing.get_context("spawn").RawValue("L", 0)
        self._words = tempfile.TemporaryDirectory(prefix="vla-bench-")
        self._asking = threading.Lock()
        self._closed = threading.Event()
        self._obituaries: list[Obituary] = []
        self._process, self._connection = self._start()
        self._watcher: threading.Thread | None = None
        self.served: Served
        self.gone = ""

    @property
    def hosts(self) -> Mapping[Pair, Host]:
        """Where the policies are reached."""
        from vla_bench.policy.remote.hosted import Host
        from vla_bench.policy.remote.server.endpoint import MAX_SESSIONS

        # whoever hangs is ended here, so that nobody need lose patience who waits for the others' answers
        answer_s = self._means.patience_s * MAX_SESSIONS
        away_s = sum(PAUSES_S) + len(PAUSES_S) * self._means.load_s
        return {
            pair: Host(f"{self._address}:{port}", self._token, answer_s, away_s)
            for pair, port in self._ports.items()
            if port
        }

    def wait_until_loaded(self) -> None:
        """Wait for the policies; from then on, the process is started again when it dies.

        Raises:
            VlaBenchError: One cannot be loaded, or not in time.
        """
        for pause_s in PAUSES_S[1:]:
            try:
                self._hear()
                break
            except _KilledError as error:
                log.warning("%s; it is started again", error)
                self._heed_memory()
                time.sleep(pause_s)
                self._connection.close()
                self._process, self._connection = self._start()
        else:
            self._hear()
        self._watcher = threading.Thread(target=self._watch, name="policies", daemon=True)
        self._watcher.start()

    def ask(self, question: object) -> list[Any] | None:
        """What the process answers; None if it is gone.

        Raises:
            VlaBenchError: What it raised.
        """
        with self._asking:
            try:
                self._connection.send(question)
                answer = self._connection.recv()
            except (EOFError, OSError):
                return None
        if isinstance(answer, VlaBenchError):
            raise answer
        return answer

    def insist(self, question: object) -> list[Any]:
        """What the process answers, if need be when it was started again.

        Raises:
            VlaBenchError: What it raised, or why it cannot be started again.
        """
        for _ in range(1 + len(PAUSES_S)):
            asked = self._process
            answer = self.ask(question)
            if answer is not None:
                return answer
            while self._process is asked and self._watcher is not None and self._watcher.is_alive():
                time.sleep(_LOOK_S)
        raise MissingCapabilityError(f"the process of the policies {self._how()}")

    def close(self) -> None:
        """End the process."""
        self._closed.set()
        self._process.kill()
        while self._watcher is not None and self._watcher.is_alive():
            self._process.kill()  # it may just have been started again
            self._watcher.join(timeout=_LOOK_S)
        self._process.join()
        self._connection.close()
        for obituary in self._obituaries:
            obituary.close()
        self._words.cleanup()

    @property
    def _log(self) -> Path:
        return Path(self._words.name) / "log"

    def _start(self) -> tuple[SpawnProcess, Connection]:
        from vla_bench.run.policy_process import Order, serve

        self._log.unlink(missing_ok=True)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        order = Order(
            self._ports, self._token, self._address, self._max_batch, self._means.batch_wait_s,
            self._means.patience_s, self._log, self._answers,
        )  # fmt: skip
        process = context.Process(target=serve, args=(theirs, order, self._gpu), name="policies", daemon=True)
        with deaf_to_interrupts():
            process.start()
        theirs.close()
        return process, ours

    def _hear(self) -> None:
        """Wait until the policies are loaded.

        Raises:
            VlaBenchError: One cannot be, or not in time.
        """
        from vla_bench.run.executors.worker import OUT_OF_MEMORY

        try:
            if not self._connection.poll(self._means.load_s):
                self._process.kill()
                raise MissingCapabilityError(self._too_slow())
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
            if self._answers.value != answered:
                failed, answered = 0, self._answers.value
            if failed == len(PAUSES_S):
                break
            if self._closed.wait(PAUSES_S[failed]):
                return
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
        if not self._closed.is_set():
            self._give_up(f"it was tried {len(PAUSES_S)} times, the last time {said}")

    def _give_up(self, why: str) -> None:
        """Let whoever asks hear why nobody answers, rather than wait."""
        self.gone = f"policies cannot be loaded again: {why}"
        log.error(self.gone)
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
        words = last_words(self._log)
        return f"ended with exit status {code}{f': {words}' if words else ''}"

    def _too_slow(self) -> str:
        from vla_bench.run.stage import too_slow

        return too_slow(self._ports, self._means.load_s)
