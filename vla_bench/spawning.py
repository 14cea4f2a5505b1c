"""What every spawned process does first, and what must be set before it is spawned."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator


def leave_signals_to_main() -> None:
    """Ctrl-C goes to every process of a terminal: only the main one decides. Nobody outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    main = multiprocessing.parent_process()
    if main is not None and os.getppid() != main.pid:  # it died before this could be asked for
        os._exit(1)


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started within never hear of Ctrl-C, also before they can say so themselves."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def one_thread_each() -> None:
    """Workers fill the processors by their number: software rendering and linear algebra get one each."""
    for variable in ("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
