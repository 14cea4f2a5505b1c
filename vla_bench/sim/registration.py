"""Registers every task with Gymnasium; `import vla_bench.envs` calls it."""

from __future__ import annotations

import gymnasium

from vla_bench import catalog
from vla_bench.errors import VlaBenchError


def register_tasks() -> None:
    """Register `vla_bench/<suite>.<stem>-v0` for every task of every suite that can be listed.

    Suites whose files list their tasks are registered without their data being there; making such an
    environment then says how to get it.
    """
    for name, suite in catalog.suites().items():
        try:
            stems = suite.stems()
        except VlaBenchError:
            continue  # the suite's folder is not there: its tasks have no names yet
        for stem in stems:
            gymnasium.register(
                id=f"vla_bench/{name}.{stem}-v0",
                entry_point="vla_bench.axes.environment:make_env",
                kwargs={"task": f"{name}/{stem}"},
            )
