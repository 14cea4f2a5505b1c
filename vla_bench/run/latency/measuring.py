"""Records what a policy takes on this machine, alone, so that a run can replay it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_bench.policy.base import Policy
from vla_bench.run.latency import LatencySource, latency_source
from vla_bench.run.latency.draws import Trace
from vla_bench.run.latency.traces import read_trace
from vla_bench.types import Arm, Observation

# Calls that set up libraries, caches and graphs, and calls that count.
WARM_UP, CALLS = 3, 50


def known_source(arm: Arm, folder: Path) -> LatencySource:
    """The delays of an arm; what was measured is read from the run's folder.

    Raises:
        MissingDataError: It was not measured there.
    """
    source = latency_source(arm.latency)
    if source is not None:
        return source
    samples_ns, digest = read_trace(str(_path(arm, folder)))
    return Trace(samples_ns, content=digest)


@dataclass(frozen=True, slots=True)
class Measure:
    """What is to be recorded into a run's folder.

    Attributes:
        arm: Whose policy at its precision.
        folder: Of the run.
        instruction, seed: Of the episode that the policy is in.
        observation: A real one.
        about: What else the trace says of itself.
    """

    arm: Arm
    folder: Path
    instruction: str
    seed: int
    observation: Observation
    about: Mapping[str, Any]


def measure(asked: Measure, policy: Policy) -> None:
    """Record what `policy` takes, unless it is known; nothing else of this process runs meanwhile."""
    path = _path(asked.arm, asked.folder)
    if path.exists():
        return
    policy.reset(asked.instruction, asked.seed)
    _record(path, asked.arm, policy, asked.observation, asked.about)


def _path(arm: Arm, folder: Path) -> Path:
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in f"{arm.policy}-{arm.precision}")
    return folder / "latencies" / f"{name}.parquet"


def _record(path: Path, arm: Arm, policy: Policy, observation: Observation, about: Mapping[str, Any]) -> None:
    from vla_bench.policy.bench.measure import Cell
    from vla_bench.policy.bench.timing import timed
    from vla_bench.policy.bench.trace import write_trace
    from vla_bench.policy.profile import profile

    device = profile(policy).device
    given = [[observation] * policy.spec.history]
    calls = [timed(policy, given, device)[1] for _ in range(WARM_UP + CALLS)][WARM_UP:]
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".part")
    write_trace(written, [Cell(arm.policy, arm.precision, 1, device, calls={"policy": calls})], about)
    written.replace(path)  # whole or not at all
