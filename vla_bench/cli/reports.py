"""`report` and `compare`: from records to tables and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_bench.cli.shared import AsJson, app

if TYPE_CHECKING:
    from vla_bench.account.report import Report


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
    """Print the tables of a results folder and write them and the figures into it."""
    from vla_bench.account.page import write_page, write_single_file
    from vla_bench.account.report import write_report

    made = write_report(folder)
    pages: list[Path] = []
    pages += write_page(made.run, made) if html else ()
    pages += [write_single_file(made.run, made)] if single_file else ()
    _print(made, as_json)
    if not as_json:
        for page in pages:
            print(f"written: {page}")


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Two or more results folders.")],
    despite_differences: Annotated[
        bool,
        typer.Option("--despite-differences", help="Compare although physics, pictures or weights differ."),
    ] = False,
    by_folder: Annotated[
        bool, typer.Option("--by-folder", help="Take the same arm of each folder for different ones.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for tables and figures; without it none are written.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: their arms are paired on the episodes that they share."""
    from vla_bench.account.comparing import compare as compare_runs

    made = compare_runs(folders, despite_differences=despite_differences, by_folder=by_folder, out=out)
    _print(made, as_json)


def _print(made: Report, as_json: bool) -> None:
    """A report, for people or for programs."""
    if as_json:
        tables = {
            table.name: [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]
            for table in made.tables
        }
        print(json.dumps({"header": made.header, "tables": tables}, indent=2))
        return
    print(made.text())
    if made.files:
        print(made.written())
