"""`bench`: speed on this machine, always as ratios of one run."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vla_bench import catalog
from vla_bench.cli.shared import AsJson, app

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")
app.add_typer(bench_app, name="bench")


@bench_app.command("sim")
def bench_sim(
    task: Annotated[str, typer.Option("--task", help="Task, suite/stem or suite/index.")],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 5,
    pictures: Annotated[bool, typer.Option(help="Measure rendering too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Control steps per second, resets, memory, and the ratios to bare MuJoCo and to LIBERO's original."""
    import dataclasses

    from vla_bench.sim.bench import bench_simulation, describe

    result = bench_simulation(catalog.task(task), rounds=rounds, pictures=pictures)
    print(json.dumps(dataclasses.asdict(result), indent=2) if as_json else describe(result))
