"""`query` and `verify`: what was recorded, asked and checked."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vla_bench.cli.shared import AsJson, app, print_rows

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
