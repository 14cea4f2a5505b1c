"""Records what a policy takes on this machine, alone, so that a run can replay it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_bench.policy.base import Policy
from vla_bench.run.latency.draws import Trace
from vla_bench.run.latency.traces import read_trace
from vla_bench.types import Observation

# Calls that set up libraries, caches and graphs, and calls that count.
WARM_UP, CALLS = 3, 50


def measured_trace(
    path: Path, policy: Policy, name: str, precision: str, observation: Observation, about: Mapping[str, Any]
) -> Trace:
    """The trace at `path`; recorded there first if it is not, with `policy` on one real observation.

    Nothing else of this process runs meanwhile. The policy must have been reset.
    """
    if not path.exists():
        _record(path, policy, name, precision, observation, about)
    samples_ns, digest = read_trace(str(path))
    return Trace(samples_ns, content=digest)


def _record(
    path: Path, policy: Policy, name: str, precision: str, observation: Observation, about: Mapping[str, Any]
) -> None:
    from vla_bench.policy.bench.measure import Cell
    from vla_bench.policy.bench.timing import timed
    from vla_bench.policy.bench.trace import write_trace
    from vla_bench.policy.profile import profile

    device = profile(policy).device
    given = [[observation] * policy.spec.history]
    calls = [timed(policy, given, device)[1] for _ in range(WARM_UP + CALLS)][WARM_UP:]
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".part")
    write_trace(written, [Cell(name, precision, 1, device, calls={"policy": calls})], about)
    written.replace(path)  # whole or not at all
