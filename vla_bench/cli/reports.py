"""`report` and `compare`: from records to tables and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vla_bench.cli.shared import AsJson, app


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    as_json: AsJson = False,
) -> None:
    """Print the comparison tables of a results folder and write them as Markdown, CSV and LaTeX."""
    from vla_bench.account.report import write_report

    made = write_report(folder)
    if as_json:
        tables = {
            table.name: [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]
            for table in made.tables
        }
        print(json.dumps({"header": made.header, "tables": tables}, indent=2))
        return
    print(made.text())
    for file in made.files:
        print(f"written: {file}")
