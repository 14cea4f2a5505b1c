"""Who plays the items of a plan: this process, several of this machine, Ray's actors, or Slurm's jobs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vla_bench.errors import MissingCapabilityError, UnknownNameError
from vla_bench.run.executors.units import Unit
from vla_bench.run.executors.worker import LOAD_S, PATIENCE_S
from vla_bench.run.plan import WorkItem
from vla_bench.run.records import Record
from vla_bench.run.stage import Job, Policies

__all__ = ["EXECUTORS", "Executor", "Means", "make_executor"]


@dataclass(frozen=True, slots=True)
class Means:
    """What a run has at its disposal.

    Attributes:
        workers: How many simulators run side by side.
        max_batch: How many requests a policy answers together; 1 is exact with any number of workers.
        patience_s: How long an episode may make no progress before its process is ended.
        address: Of a Ray cluster; None is one of this machine's own.
        slurm: Parameters of the jobs, as submitit calls them (`slurm_partition`, `timeout_min`, …).
        batch_wait_s: How long a request waits for those of other simulators, to be answered with them.
        load_s: How long policies may take to be loaded.
    """

    workers: int = 1
    max_batch: int = 8
    patience_s: float = PATIENCE_S
    address: str | None = None
    slurm: Mapping[str, str | int] = field(default_factory=dict)
    batch_wait_s: float = 0.01
    load_s: float = LOAD_S


class Executor(Protocol):
    """Plays units and writes their records.

    Attributes:
        means: What it was given.
        hosting: Whether policies are served by processes of their own, which the run starts.
        host: Address of this machine at which those who play reach them.
    """

    means: Means
    hosting: bool

    @property
    def host(self) -> str:
        """See above."""
        ...

    def run(
        self, job: Job, units: Sequence[Unit], policies: Policies, needed: Callable[[WorkItem], bool]
    ) -> Generator[Record]:
        """Play all units, in any order, and yield each record when it is on the disk.

        Closing the iterator lets everybody finish what they play, and stops them.

        Args:
            job: What everybody must know.
            units: What is played.
            policies: Those of this process; other processes have their own.
            needed: Whether an item is still worth playing, asked when its turn comes.

        Raises:
            VlaBenchError: Nothing can be played any more: a full disk, say.
        """
        ...


# name → what makes it, and the extra of the distribution that it needs
EXECUTORS = {
    "serial": ("vla_bench.run.executors.serial:Serial", ""),
    "process": ("vla_bench.run.executors.processes:Processes", ""),
    "ray": ("vla_bench.run.executors.on_ray:OnRay", "ray"),
    "slurm": ("vla_bench.run.executors.on_slurm:OnSlurm", "slurm"),
}


def make_executor(name: str | None, means: Means) -> Executor:
    """Return an executor; without a name, `serial` for one worker and `process` for several.

    Raises:
        UnknownNameError: There is none of that name.
        MissingCapabilityError: Its package is not installed, or it has one worker and is given several.
    """
    name = name or ("serial" if means.workers == 1 else "process")
    if name not in EXECUTORS:
        raise UnknownNameError("executor", name, EXECUTORS)
    place, extra = EXECUTORS[name]
    module_name, _, factory = place.partition(":")
    try:
        return getattr(importlib.import_module(module_name), factory)(means)
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            f"executor {name!r} needs the package {error.name!r}: pip install 'vla-bench[{extra}]'"
        ) from error
