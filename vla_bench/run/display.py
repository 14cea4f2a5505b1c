"""A run on a terminal: progress with an estimate, a line of totals, and a clean stop on Ctrl-C."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vla_bench.run.executors import Executor
from vla_bench.run.executors.undecided import Undecided
from vla_bench.run.plan import Plan
from vla_bench.run.provenance import header_of
from vla_bench.run.records import Record, done_keys, read_header
from vla_bench.run.runner import run_plan
from vla_bench.run.session import begin_session


def run_with_progress(
    plan: Plan, folder: Path, command: Sequence[str], executor: Executor | Undecided | None = None
) -> bool:
    """Run a plan in the foreground; returns whether it was finished.

    Raises:
        VlaBenchError: As `runner.run_plan`.
    """
    console = Console(stderr=True, highlight=False)
    header = header_of(plan, begin_session(plan, command))
    keys = {item.key for item in plan.items}
    done = len(done_keys(folder) & keys) if folder.is_dir() else 0
    if done:
        console.print(f"{folder}: {done} of {len(keys)} episodes are done; continuing")
    counts: Counter[str] = Counter()
    told: set[tuple[str, str]] = set()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("episodes", total=len(keys), completed=done)

        def show(record: Record) -> None:
            counts[record.status] += 1
            progress.update(bar, advance=1, description=_totals(counts))
            if record.error is None:
                return
            arm = f"{record.policy} at {record.precision}"
            if (arm, record.error.message) not in told:  # what a machine lacks, it lacks every time
                told.add((arm, record.error.message))
                progress.console.print(f"error in {record.episode.key}, {arm}: {record.error.message}")

        try:
            run_plan(plan, folder, header, show, executor)
        except KeyboardInterrupt:
            progress.stop()
            console.print(f"stopped; {_totals(counts)}; the same command continues")
            return False
    for loaded in read_header(folder).sessions[-1].loaded:
        console.print(f"{loaded.policy}: {loaded.report}")
    console.print(
        f"{folder}: {done + counts.total()} of {len(keys)} episodes are recorded; {_totals(counts)}"
    )
    return True


def _totals(counts: Counter[str]) -> str:
    words = {"success": "succeeded", "failure": "failed", "error": "errors"}
    return ", ".join(f"{counts[status]} {word}" for status, word in words.items())
