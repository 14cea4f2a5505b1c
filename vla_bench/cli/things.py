"""`list` and `gallery`: what exists, and what it looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_bench import catalog
from vla_bench.cli.shared import AsJson, Axes, Suites, app, print_rows, words
from vla_bench.errors import UnknownNameError


@app.command("list")
def list_things(
    kind: Annotated[
        str, typer.Argument(help="suites, tasks, factors, certificates, policies, latencies or studies.")
    ] = "suites",
    suite: Suites = None,
    task_axis: Axes = None,
    as_json: AsJson = False,
) -> None:
    """List what exists: suites, tasks, factors, certificates, policies, latencies, studies."""
    from vla_bench import listing

    kinds = {
        "suites": listing.suites,
        "tasks": lambda: listing.tasks(words(suite), words(task_axis)),
        "factors": lambda: listing.factors(words(task_axis), wide=as_json),
        "certificates": lambda: listing.certificates(words(suite)),
        "policies": listing.policies,
        "latencies": listing.latencies,
        "studies": listing.studies,
    }
    if kind not in kinds:
        raise UnknownNameError("kind of thing", kind, kinds)
    print_rows(kinds[kind](), as_json)


@app.command()
def gallery(
    suite: Annotated[str, typer.Option(help="The suite.")],
    task: Annotated[
        str | None, typer.Option(help="Task that factors are shown on; default the first.")
    ] = None,
    factors: Annotated[list[str] | None, typer.Option(help="Factors, comma-separated: 'visual.*'.")] = None,
    levels: Annotated[str, typer.Option(help="Levels, comma-separated.")] = "0,1,3,5",
    out: Annotated[Path, typer.Option(help="Pictures go to <out>/<suite>.")] = Path("results/gallery"),
) -> None:
    """Write a still of every task, and a sheet of what each factor does to the picture, level by level."""
    from vla_bench.axes.gallery import write_factors, write_stills

    tasks = [catalog.task(f"{suite}/{stem}") for stem in catalog.suite(suite).stems()]
    shown = tasks[0] if task is None else catalog.task(task if "/" in task else f"{suite}/{task}")
    patterns = words(factors) or ["visual.*", "motion.*", "physical.*"]
    sheet, left_out = write_factors(shown, patterns, levels, out / shown.suite)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"written: {sheet}")
    for file in write_stills(tasks, out / suite):
        print(f"written: {file}", flush=True)
