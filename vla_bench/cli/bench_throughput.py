"""`bench throughput`: how fast a run can be here, and what to run it with."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vla_bench.cli.bench import bench_app
from vla_bench.cli.shared import AsJson, Suites, Tasks, words
from vla_bench.errors import VlaBenchError


@bench_app.command("throughput")
def bench_throughput(
    suite: Suites = None,
    task: Tasks = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="Who acts; without one, nobody, who sees every camera.")
    ] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="Default is the card's first.")] = None,
    workers: Annotated[
        list[str] | None,
        typer.Option("--workers", help="Simulators side by side, comma-separated; default 1, 2, 4 … cores."),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option("--batch", help="Requests answered together, comma-separated; default 1, 2, 4, 8."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task, for the overhead.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each number of simulators.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a turn.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Measure demand, supply and overhead, and propose workers, batch and wait.

    Demand: observations a second against simulators side by side. Supply: answers a second against requests
    answered together. The first task is timed; the overhead is that of all episodes, with a free policy.
    """
    from vla_bench.run.plan import make_plan
    from vla_bench.run.study import load_study
    from vla_bench.run.throughput.bench import Turns, bench_throughput
    from vla_bench.run.throughput.free import task_spec
    from vla_bench.run.throughput.looking import cores, doubling
    from vla_bench.run.throughput.report import describe

    study = load_study(
        None, suites=words(suite) or None, tasks=words(task) or None, policies=[policy or "noop"],
        precisions=[precision] if precision else None, episodes=episodes,
    )  # fmt: skip
    plan = make_plan(study)
    found = bench_throughput(
        plan,
        workers=_numbers("--workers", workers) or doubling(cores()),
        batches=_numbers("--batch", batch) or doubling(8),
        turns=Turns(rounds, seconds),
        shown=None if policy else task_spec(plan.items[0].task()),
    )
    print(json.dumps(found.to_json(), indent=2) if as_json else describe(found))


def _numbers(flag: str, values: list[str] | None) -> list[int]:
    found = words(values)
    if not all(text.isdecimal() and int(text) > 0 for text in found):
        raise VlaBenchError(f"{flag} {','.join(found)}: expected numbers, as in 1,2,4")
    return [int(text) for text in found]
