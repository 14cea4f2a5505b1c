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
    html: Annotated[
        bool, typer.Option("--html", help="Also write the page: index.html in the folder.")
    ] = False,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Also write the page, without videos, as one file to send.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the comparison tables of a results folder and write them as Markdown, CSV and LaTeX."""
    from vla_bench.account.page import write_page, write_single_file
    from vla_bench.account.report import write_report
    from vla_bench.run.records import read_run

    made = write_report(folder)
    pages: list[Path] = []
    if html or single_file:
        run = read_run(folder)
        pages += write_page(run, made) if html else ()
        pages += [write_single_file(run, made)] if single_file else ()
    if as_json:
        tables = {
            table.name: [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]
            for table in made.tables
        }
        print(json.dumps({"header": made.header, "tables": tables}, indent=2))
        return
    print(made.text())
    print(made.written())
    for page in pages:
        print(f"written: {page}")
