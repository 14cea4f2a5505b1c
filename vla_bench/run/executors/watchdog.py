"""Ends a process that makes no progress, and says where it hung."""

from __future__ import annotations

import faulthandler
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

LOOKS = 20  # how often within the patience progress is looked for


class Watchdog:
    """A context: while it is open, the process is ended when `progress` stays the same for too long.

    The timer is the interpreter's own and needs no lock of it, so that a loop in foreign code ends too; what
    all threads were doing is written to `log` first.

    Args:
        progress: Something that changes as work goes on, or None while there is no work.
        patience_s: How long it may stay the same.
        log: Where the last words go.
    """

    def __init__(self, progress: Callable[[], object], patience_s: float, log: Path) -> None:
        self._progress, self._patience_s, self._log = progress, patience_s, log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
        self._file: IO[str] | None = None

    def __enter__(self) -> Watchdog:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._log.open("w", encoding="utf-8")
        faulthandler.enable(self._file)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        if self._file is not None:
            self._file.close()

    def _look(self) -> None:
        before: object = object()
        while True:
            now = self._progress()
            if now is None:
                faulthandler.cancel_dump_traceback_later()
            elif now != before:
                assert self._file is not None
                faulthandler.dump_traceback_later(self._patience_s, exit=True, file=self._file)
            before = now
            if self._over.wait(self._patience_s / LOOKS):
                return


def last_words(log: Path) -> str:
    """What a process wrote before it ended: the line that names the fault, or "" if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return lines[0].strip() if lines else ""
