"""`certify`: whether varied tasks can be solved and seen."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vla_bench import catalog
from vla_bench.cli.shared import AsJson, Suites, Tasks, app, print_rows, words
from vla_bench.errors import VlaBenchError


@app.command()
def certify(
    suite: Suites = None,
    task: Tasks = None,
    vary: Annotated[
        list[str] | None, typer.Option("--vary", help="Variations; default every factor at every level.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Most draws of a cell; it stops once decided.")] = 21,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default beside each suite.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let the scripted expert try varied tasks, count what the camera sees, and store the certificates."""
    from rich.console import Console
    from rich.progress import Progress

    from vla_bench.axes.variation import expand, split_list
    from vla_bench.run.certification import Register, examine, missing

    tasks = [
        catalog.task(f"{name}/{stem}") for name in words(suite) for stem in catalog.suite(name).stems()
    ] + [catalog.task(name) for name in words(task)]
    if not tasks:
        raise VlaBenchError("certify needs --suite or --task")
    variations = expand(part for text in vary or ["*@0,1,2,3,4,5"] for part in split_list(text) or [""])
    register = Register(list(dict.fromkeys(t.suite for t in tasks)), out)
    units = missing(tasks, variations, seeds, register.known)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("cells", total=sum(len(unit.variations) for unit in units))
        for rows in examine(units, workers):
            register.add(rows)
            progress.update(bar, advance=len(rows))
    asked = {(t.id, v) for t in tasks for v in variations}
    rows = [row for cell, row in register.known.items() if cell in asked]
    if as_json:
        print(json.dumps([{**dataclasses.asdict(row), "certified": row.certified} for row in rows], indent=2))
        return
    print_rows(_summary(rows), as_json=False)
    for row in rows:
        if not row.certified:
            why = f" ({row.reason})" if row.reason else ""
            print(
                f"not certified: {row.task} {row.variation or 'unvaried'}: {'; '.join(row.shortcomings)}{why}"
            )


def _summary(rows: list[Any]) -> list[dict[str, Any]]:
    """Counts by suite and level; the level of a composition is its highest."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        levels = [part.partition("@")[2] for part in row.variation.split("+")]
        groups.setdefault((row.task.partition("/")[0], max(levels) or "0"), []).append(row)
    return [
        {
            "suite": suite,
            "level": level,
            "cells": len(cells),
            "certified": sum(row.certified for row in cells),
            "draws": sum(row.n for row in cells),
            "solved": sum(row.solved for row in cells),
            "seen": sum(row.seen for row in cells),
        }
        for (suite, level), cells in sorted(groups.items())
    ]
