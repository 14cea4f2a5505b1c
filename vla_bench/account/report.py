"""The report of a results folder: tables and figures of its records, and where these come from."""

from __future__ import annotations

import os
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

from vla_bench.account import formats
from vla_bench.account.assembly import Assembled, assemble
from vla_bench.account.documents import write_documents
from vla_bench.account.figures import Figure
from vla_bench.account.provenance import header_lines
from vla_bench.account.tables import Table
from vla_bench.run.records import Run, garbage_kept, read_run

_TERMINAL_ROWS = 150  # together; tables for which no room is left are only named


@dataclass(frozen=True, slots=True)
class Report:
    """A report as written.

    Attributes:
        title: What it is of.
        folder: Where it was written; None if nothing was.
        header: Sentences on where the records come from and what is wrong with them.
        files: What was written.
        run: What it is of.
    """

    title: str
    folder: Path | None
    header: tuple[str, ...]
    made: Assembled
    run: Run
    files: tuple[Path, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The most condensed first."""
        return self.made.tables

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The most condensed first."""
        return self.made.figures

    def text(self, width: int | None = None) -> str:
        """The report for a terminal, `width` characters wide."""
        width = width or shutil.get_terminal_size((120, 24)).columns
        lines = [textwrap.fill(line, width, subsequent_indent="  ") for line in self.header]
        lines.append("")
        known: set[str] = set()
        room = _TERMINAL_ROWS
        for table in self.tables:
            if table.detail or len(table.rows) > room:
                where = f", in {table.name}.md" if self.folder else ""
                lines.append(f"{table.title}: {len(table.rows)} rows{where}\n")
            else:
                lines.append(formats.to_text(table, width, known=known))
                known.update(table.caption)
                room -= len(table.rows)
        return "\n".join(lines)

    def written(self) -> str:
        """What was written, in a line."""
        if not self.files:
            return ""
        folders = sorted({os.path.relpath(path.parent, self.folder) for path in self.files} - {"."})
        single = [path.name for path in self.files if path.parent == self.folder]
        return (
            f"written to {self.folder}: {', '.join([*single, *(f'{folder}/' for folder in folders)])} "
            f"({len(self.tables)} tables, {len(self.figures)} figures, {len(self.files)} files)"
        )


def write_report(folder: str | Path) -> Report:
    """Write the tables and figures of a results folder into it, finished or not.

    Raises:
        VlaBenchError: The folder holds no run that can be read, or cannot be written.
    """
    with garbage_kept():
        run = read_run(folder)
        header, made = tuple(header_lines(run)), assemble(run)
    title = f"Results of {run.header.study_name}"
    files = write_documents(run.folder, title, header, made)
    return Report(title, run.folder, header, made, run, tuple(files))
