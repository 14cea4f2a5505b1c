"""trackio, which keeps everything on this machine (`TRACKIO_DIR`), unless its own variables say otherwise."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import trackio

from vla_bench.run.records import Record, RunHeader
from vla_bench.run.trackers.numbers import PROJECT, described, identity, numbers_of, title


class Trackio:
    """One run of trackio."""

    name = "trackio"

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, header: RunHeader) -> None:
        """Begin or continue."""
        with contextlib.redirect_stdout(sys.stderr):  # it prints; what programs read stays clean
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT), config=described(header),
                name=f"{title(header)}-{identity(header)}", resume="allow", embed=False,
            )  # fmt: skip

    def record(self, record: Record) -> None:
        """Log the numbers of an episode."""
        self._run.log(numbers_of(record))

    def end(self, summary: Mapping[str, float]) -> None:
        """Log the counts, and finish."""
        self._run.log(dict(summary))
        with contextlib.redirect_stdout(sys.stderr):
            trackio.finish()  # also lets go of the run, which would be finished again at exit
