"""`query` and `verify`: what was recorded, asked and checked."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench.cli.shared import AsJson, app, print_rows

if TYPE_CHECKING:
    from vla_bench.run.records import Record

RESULTS = Path("results")


@app.command(name="query")
def query_runs(
    sql: Annotated[str, typer.Argument(help="One statement that reads, in DuckDB's SQL.")],
    folder: Annotated[
        list[Path] | None, typer.Option("--folder", help="Results folders; default: all under results/.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Ask recorded runs in SQL: the views runs, episodes, inferences and steps.

    episodes.success is 1 or 0, and null where an episode ended in an error: avg(success) leaves errors out,
    and count(*) - count(success) counts them. Milliseconds of single calls are in inferences (join on run and
    key); `describe episodes` lists columns. Nothing is written.

    vla-bench query "select policy, avg(success) from episodes group by 1"
    """
    from vla_bench.run.records.query import find_runs, query

    answer = query(sql, folder or find_runs(RESULTS))
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([answer.names, *answer.rows])
    elif as_json:
        rows = [{name: _plain(value) for name, value in row.items()} for row in answer.table()]
        print(json.dumps(rows, indent=2, default=str))
    else:
        print_rows(answer.table(), as_json=False)


def _plain(value: Any) -> Any:
    """JSON has no number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    sample: Annotated[
        int, typer.Option(min=0, help="How many episodes are played again; which ones, the study decides.")
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Check a results folder: checksums of all lines, study, plan, and some episodes played again.

    What the wall clock decides is not compared. Exit status 1 says that something is wrong or differs.
    """
    from vla_bench.run.verify import verify as check

    verdict = check(folder, sample=sample, command=sys.argv, on_record=_say_played)
    if as_json:
        print(json.dumps(dataclasses.asdict(verdict), indent=2))
    else:
        print(
            f"{folder}: {verdict.lines} lines read, {verdict.same} of {verdict.replayed} replays are the same"
        )
        for finding in verdict.findings:
            print(f"WRONG: {finding}")
        for remark in verdict.remarks:
            print(f"note: {remark}")
        print(f"{len(verdict.findings)} findings" if verdict.findings else "nothing is wrong")
    if verdict.findings:
        raise typer.Exit(1)


def _say_played(record: Record) -> None:
    print(f"played again: {record.episode.key} with {record.arm.key}: {record.status}", file=sys.stderr)
