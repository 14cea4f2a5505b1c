"""trackio, which keeps everything on this machine (`TRACKIO_DIR`), unless its own variables say otherwise."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Mapping
from typing import Any

import trackio

from vla_bench.run.records import Record, RunHeader
from vla_bench.run.trackers.numbers import PROJECT, described, identity, numbers_of, title

log = logging.getLogger("vla_bench.run")


class Trackio:
    """One run of trackio."""

    name = "trackio"

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, header: RunHeader) -> None:
        """Begin or continue."""
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        with _silent():
            self._run = trackio.init(
                project=project, name=f"{title(header)}-{identity(header)}", resume="allow",
                config=described(header), embed=False,
            )  # fmt: skip
        log.info("trackio: run %s; trackio show --project %s", self._run.name, project)

    def record(self, record: Record) -> None:
        """Log the numbers of an episode."""
        self._run.log(numbers_of(record))

    def end(self, summary: Mapping[str, float]) -> None:
        """Log the counts, and finish."""
        self._run.log(dict(summary))
        with _silent():
            trackio.finish()  # also lets go of the run, which would be finished again at exit


def _silent() -> contextlib.AbstractContextManager[object]:
    """It prints, in colours: what programs read stays clean, and the terminal is the run's."""
    return contextlib.redirect_stdout(io.StringIO())
