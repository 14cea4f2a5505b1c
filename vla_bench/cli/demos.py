"""`demos`: the scripted expert's demonstrations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench import catalog
from vla_bench.cli.shared import AsJson, Axes, Suites, Tasks, app, print_rows, words
from vla_bench.errors import UnknownNameError, VlaBenchError
from vla_bench.types import TASK_AXES, Task

if TYPE_CHECKING:
    from vla_bench.learn.recording import Attempt


@app.command()
def demos(
    suite: Suites = None,
    task: Tasks = None,
    task_axis: Axes = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task that are tried.")] = 10,
    first_episode: Annotated[int, typer.Option(min=0, help="Index of the first episode.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set.")] = Path("demos"),
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Store pictures without loss: 2 to 5 times as large.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Record what the scripted expert does, as a LeRobot data set; the same command again continues.

    Only successes are kept. The episodes are those of no evaluation. Without --lossless, films lose colour.
    """
    tasks = _tasks(words(suite), words(task), words(task_axis))
    wanted = range(first_episode, first_episode + episodes)
    attempts, finished = _record(tasks, out, wanted, "lossless" if lossless else "film")
    rows = [_row(name, attempts) for name in dict.fromkeys(task.id for task in tasks)]
    if as_json:
        outcomes = {attempt.episode.key: attempt.outcome for attempt in attempts}
        print(json.dumps({"folder": str(out), "tasks": rows, "episodes": outcomes}, indent=2))
    else:
        print_rows(rows, as_json=False)
        kept, tried = (sum(row[name] for row in rows) for name in ("kept", "tried"))
        print(f"{out}: kept {kept} of {tried} tried")
    if not finished:
        raise typer.Exit(130)


def _record(tasks: list[Task], out: Path, wanted: range, encoding: str) -> tuple[list[Attempt], bool]:
    """Record with a progress bar; returns the attempts, and whether nobody pressed Ctrl-C."""
    from rich.console import Console
    from rich.progress import Progress

    from vla_bench.learn.recording import record

    attempts: list[Attempt] = []
    with Progress(console=Console(stderr=True, highlight=False)) as progress:
        bar = progress.add_task("episodes", total=len(tasks) * len(wanted))

        def show(attempt: Attempt) -> None:
            attempts.append(attempt)
            progress.advance(bar)
            if attempt.outcome.startswith("error"):
                progress.console.print(f"{attempt.episode.key}: {attempt.outcome}")

        try:
            record(tasks, out, episodes=wanted, encoding=encoding, on_attempt=show)
        except KeyboardInterrupt:
            progress.console.print("stopped; the same command continues")
            return attempts, False
    return attempts, True


def _tasks(suites: list[str], names: list[str], axes: list[str]) -> list[Task]:
    for axis in axes:
        if axis not in TASK_AXES:
            raise UnknownNameError("task axis", axis, TASK_AXES)
    if not suites and not names:
        raise VlaBenchError("name what is to be recorded: --suite libero_object, or --task suite/stem")
    found = [catalog.task(name) for name in names]
    for name in suites:
        chosen = catalog.suite(name)
        found += [chosen.task(stem) for stem, axis in chosen.axes().items() if not axes or axis in axes]
    return list({task.id: task for task in found}.values())


def _row(task_id: str, attempts: list[Attempt]) -> dict[str, Any]:
    mine = [attempt.outcome for attempt in attempts if attempt.episode.task_id == task_id]
    return {
        "task": task_id,
        "kept": mine.count("kept"),
        "tried": len(mine),
        "errors": sum(outcome.startswith("error") for outcome in mine),
    }
