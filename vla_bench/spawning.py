"""What every spawned process does first, and what must be set before it is spawned."""

from __future__ import annotations

import os
import signal
import sys


def leave_signals_to_main() -> None:
    """Ctrl-C goes to every process of a terminal: only the main one decides. Nobody outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def one_thread_each() -> None:
    """Workers fill the processors by their number: software rendering and linear algebra get one each."""
    for variable in ("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
