"""Trackers: Weights & Biases, trackio, MLflow. They are told of a run; no result is read back from them.

A new one is a module with a class that is a `Tracker`, and a line of `TRACKERS`.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from vla_bench.errors import MissingCapabilityError, UnknownNameError
from vla_bench.run.records import Record, RunHeader

__all__ = ["TRACKERS", "Sinks", "Tracker", "make_tracker"]

log = logging.getLogger("vla_bench.run")


class Tracker(Protocol):
    """Is told of one run.

    Attributes:
        name: As `TRACKERS` has it.
    """

    name: str

    def begin(self, header: RunHeader) -> None:
        """A run begins, or goes on: one with the same `numbers.identity` is the same run."""
        ...

    def record(self, record: Record) -> None:
        """An episode has ended, and its record is on the disk."""
        ...

    def end(self, summary: Mapping[str, float]) -> None:
        """The run has ended or was stopped; `summary` has the counts of every arm."""
        ...


# name → what makes it; the extra of the distribution is called the same
TRACKERS = {
    "wandb": "vla_bench.run.trackers.to_wandb:Wandb",
    "trackio": "vla_bench.run.trackers.to_trackio:Trackio",
    "mlflow": "vla_bench.run.trackers.to_mlflow:Mlflow",
}


def make_tracker(name: str) -> Tracker:
    """Return the tracker of a name.

    Raises:
        UnknownNameError: There is none of that name.
        MissingCapabilityError: Its package is not installed.
    """
    if name not in TRACKERS:
        raise UnknownNameError("tracker", name, TRACKERS)
    module_name, _, factory = TRACKERS[name].partition(":")
    try:
        return getattr(importlib.import_module(module_name), factory)()
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            f"tracker {name!r} needs the package {error.name!r}: pip install 'vla-bench[{name}]'"
        ) from error


class Sinks:
    """Trackers that cannot stop a run: one that fails is left out from then on, with a warning.

    Args:
        trackers: Who is told.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)

    def begin(self, header: RunHeader) -> None:
        """Tell all of them that the run begins."""
        self._tell(lambda tracker: tracker.begin(header))

    def record(self, record: Record) -> None:
        """Tell all of them of an episode."""
        self._tell(lambda tracker: tracker.record(record))

    def end(self, summary: Mapping[str, float]) -> None:
        """Tell all of them that the run has ended."""
        self._tell(lambda tracker: tracker.end(summary))

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in tuple(self._trackers):
            try:
                tell(tracker)
            except Exception as error:  # whatever somebody else's program raises
                self._trackers.remove(tracker)
                log.warning(
                    "tracker %s failed and is told nothing more: %s: %s; the results folder has all records",
                    tracker.name, type(error).__name__, error,
                )  # fmt: skip
