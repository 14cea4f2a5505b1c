"""A limit for what may never end, in a process that has nobody who watches it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from vla_bench.errors import MissingCapabilityError


@contextlib.contextmanager
def within(seconds: float, otherwise: str) -> Iterator[None]:
    """Interrupt what takes longer; foreign code is, when it returns to Python.

    Only a main thread can be interrupted: in another one nothing is limited.

    Args:
        seconds: How long it may take.
        otherwise: The sentence of the error.

    Raises:
        MissingCapabilityError: It took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise MissingCapabilityError(otherwise)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
