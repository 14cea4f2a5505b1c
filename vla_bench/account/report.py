"""The report of a results folder: tables of its records, under a header that says where they come from."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_bench.account import formats
from vla_bench.account.assembly import assemble
from vla_bench.account.figures.robustness import draw_curves
from vla_bench.account.tables import Table
from vla_bench.errors import VlaBenchError
from vla_bench.run.records import Record, Run, RunHeader, Session, read_run

_TERMINAL_ROWS = 150  # together; tables for which no room is left are only named
FORMATS = {"md": formats.to_markdown, "csv": formats.to_csv, "tex": formats.to_latex}


@dataclass(frozen=True, slots=True)
class Report:
    """A report as written.

    Attributes:
        header: Sentences on where the records come from and what is wrong with them.
        files: What was written.
    """

    folder: Path
    header: tuple[str, ...]
    tables: tuple[Table, ...]
    files: tuple[Path, ...]

    def text(self, width: int | None = None) -> str:
        """The report for a terminal, `width` characters wide."""
        width = width or shutil.get_terminal_size((120, 24)).columns
        lines = [textwrap.fill(line, width, subsequent_indent="  ") for line in self.header]
        lines.append("")
        known: set[str] = set()
        room = _TERMINAL_ROWS
        for table in self.tables:
            if table.detail or len(table.rows) > room:
                lines.append(f"{table.title}: {len(table.rows)} rows, in {table.name}.md\n")
            else:
                lines.append(formats.to_text(table, width, known=known))
                known.update(table.caption)
                room -= len(table.rows)
        return "\n".join(lines)


def write_report(folder: str | Path) -> Report:
    """Write a results folder's tables (Markdown, CSV, LaTeX) and curves (PDF, PNG) into it, finished or not.

    Raises:
        VlaBenchError: The folder holds no run that can be read, or cannot be written.
    """
    run = read_run(folder)
    header = tuple(header_lines(run))
    made = assemble(run)
    files: list[Path] = []
    try:
        for table in made.tables:
            for ending, render in FORMATS.items():
                files.append(run.folder / f"{table.name}.{ending}")
                text = _heading(run, header, ending) + render(table)
                files[-1].write_text(text, encoding="utf-8", newline="\n")
        files += draw_curves(made.curves, run.folder, made.confidence)
    except OSError as error:
        raise VlaBenchError(f"{error.filename or run.folder} cannot be written: {error.strerror}") from error
    return Report(run.folder, header, made.tables, tuple(files))


def header_lines(run: Run) -> Iterable[str]:
    """Sentences on what was run, where, how complete it is, and what stands against its numbers."""
    header, first = run.header, run.header.sessions[0]
    title = header.study.get("title")
    yield f"Study {header.study_name}-{header.study_hash[:8]}{f': {title}' if title else ''}"
    yield f"{len(run.records)} of {header.planned} planned episodes are recorded" + (
        "." if len(run.records) >= header.planned else "; the same run command continues."
    )
    yield from _provenance(first)
    yield from _changes(header)
    yield from _assets(header)
    yield from _timing(header)
    marks = sorted({record.fingerprint for record in run.records if record.fingerprint})
    if len(marks) > 1:
        yield f"The records carry {len(marks)} fingerprints ({', '.join(marks)}): no single table should."
    if run.superseded:
        yield f"{run.superseded} records were superseded by another record of the same episode and arm."
    yield from run.problems
    yield from _errors(run.records)


def _provenance(session: Session) -> Iterable[str]:
    dirty = " with uncommitted changes" if session.git_dirty else ""
    commit = f"commit {session.git_commit[:12]}{dirty}; " if session.git_commit else ""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(session.versions.items()))
    yield f"Versions: {commit}Python {session.python}; {versions}."
    yield (
        f"Machine: {session.platform}; policies on {session.device}; GL renderer "
        f"{session.gl_renderer or 'not used'}; fingerprint {session.fingerprint or 'not taken'}."
    )


def _changes(header: RunHeader) -> Iterable[str]:
    """What later sessions of the run found different from the first."""
    first = header.sessions[0]
    for session in header.sessions[1:]:
        old, new = _conditions(first), _conditions(session)
        different = [
            f"{name}: {old.get(name)} before, {new.get(name)} then"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        if different:
            yield f"The session of {session.started_at} ran under other conditions ({'; '.join(different)})."


def _conditions(session: Session) -> dict[str, Any]:
    """Everything in a session that may change results, by name."""
    return session.model_dump(exclude={"started_at", "command", "versions"}) | session.versions


def _assets(header: RunHeader) -> Iterable[str]:
    stand_ins = {name for session in header.sessions if session.assets for name in session.assets.stand_ins}
    missing = {name for session in header.sessions if session.assets for name in session.assets.missing}
    if stand_ins:
        yield (
            f"STAND-IN ASSETS: {len(stand_ins)} asset files are stand-ins: pictures differ from the original "
            "ones, and no visual policy can be scored with them; physics and success tests are not affected."
        )
    if missing:
        yield f"{len(missing)} asset files are missing, for example {min(missing)}."


MEANWHILE = {
    "goal": "keeps its last goal",
    "null": "stands still where it is",
    "repeat": "repeats its last motion",
}


def _timing(header: RunHeader) -> Iterable[str]:
    """What the robot did while it waited, and which delays cannot be repeated."""
    for suite, rule in header.stale.items():
        yield f"While no fresh action is there, the robot of {suite} {MEANWHILE[rule]} (stale = {rule!r})."
    if header.study.get("phase") == "drawn":
        yield "The world is ahead of the policy's clock by a part of a period, drawn for each episode."
    live = [name for name, latency in header.latencies.items() if not latency.deterministic]
    if live:
        yield (f"NOT REPRODUCIBLE: latency {', '.join(live)} is what inference took here while it ran.")


def _errors(records: Iterable[Record]) -> Iterable[str]:
    """The errors by arm and message, the most frequent first."""
    counts = Counter(
        (record.arm.key, record.error.type, record.error.message.partition("\n")[0])
        for record in records
        if record.error is not None
    )
    for (arm, kind, message), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"{count} errors of {arm}: {kind}: {message}"


def _heading(run: Run, header: Iterable[str], ending: str) -> str:
    """The header in the comments or the text of a file; a CSV has none."""
    if ending == "md":
        lines = [f"# Results of {formats.markdown_escape(run.header.study_name)}", ""]
        return "\n".join([*lines, *(f"- {formats.markdown_escape(line)}" for line in header), "", ""])
    if ending == "tex":
        return "".join(f"% {' '.join(line.split())}\n" for line in header)
    return ""
