"""What the commands share: the application, its flags, and how rows are printed."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run a robot policy, at a numeric precision, under a timing regime, on tasks grouped by what they "
    "generalise over, and account for what happened.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Suites = Annotated[list[str] | None, typer.Option("--suite", help="Suites, comma-separated.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Tasks, suite/stem or suite/index.")]
Axes = Annotated[list[str] | None, typer.Option("--task-axis", help="Keep tasks that test these axes.")]


def words(values: list[str] | None) -> list[str]:
    """Options that may be repeated and hold commas."""
    return [word.strip() for value in values or () for word in value.split(",") if word.strip()]


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows with the same keys as a table, or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print("nothing")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int) else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)
