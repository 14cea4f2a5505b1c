"""The world stands still while the policy thinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vla_bench.run.pacing.options import Pacing

if TYPE_CHECKING:
    from vla_bench.run.rollout import Rollout


def blocking(run: Rollout, pacing: Pacing) -> None:
    """Execute some actions of a chunk, then think again; success cannot depend on latency."""
    while not run.ended:
        actions = run.infer()[: run.chunk_executed]
        for index, action in enumerate(actions):
            run.step(action)
            if run.ended:
                return
            run.look_ahead(len(actions) - 1 - index, len(actions))
