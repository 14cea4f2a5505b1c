"""The report of a results folder: tables of its records, under a header that says where they come from."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from vla_bench.account import cells as of
from vla_bench.account import formats, tables
from vla_bench.account.cells import Cell, Pair
from vla_bench.account.tables import Table
from vla_bench.errors import VlaBenchError
from vla_bench.run.records import Record, Run, RunHeader, Session, read_run
from vla_bench.types import Arm

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
        lines = (textwrap.fill(line, width, subsequent_indent="  ") for line in self.header)
        return "\n".join([*lines, "", *(formats.to_text(table, width) for table in self.tables)])


def write_report(folder: str | Path) -> Report:
    """Write the tables of a results folder into it, as Markdown, CSV and LaTeX; the run may be unfinished.

    Raises:
        VlaBenchError: The folder holds no run that can be read, or cannot be written.
    """
    run = read_run(folder)
    header = tuple(header_lines(run))
    made = make_tables(run)
    files = []
    for table in made:
        for ending, render in FORMATS.items():
            path = run.folder / f"{table.name}.{ending}"
            try:
                path.write_text(_heading(run, header, ending) + render(table), encoding="utf-8", newline="\n")
            except OSError as error:
                raise VlaBenchError(f"{path} cannot be written: {error.strerror}") from error
            files.append(path)
    return Report(run.folder, header, made, tuple(files))


def make_tables(run: Run) -> tuple[Table, ...]:
    """Rates by suite, paired differences where there are several arms, and rates by task."""
    confidence = float(run.header.study["statistics"]["confidence"])
    suite_cells: list[Cell] = []
    task_cells: list[Cell] = []
    pairs: list[Pair] = []
    best: dict[str, Arm] = {}
    for suite, records in _by_place(run).items():
        found = of.outcomes(records, run.header.arms)
        of_suite, of_tasks = of.summarise(suite, found, confidence)
        suite_cells += of_suite
        task_cells += chain.from_iterable(of_tasks.values())
        compared = of.pairs(suite, found)
        pairs += compared
        if winner := of.best(compared, confidence):
            best[suite] = winner
    by_suite = tables.comparison(
        suite_cells, best, place="suite", name="comparison", title="Success by suite", confidence=confidence
    )
    by_task = tables.comparison(
        task_cells, {}, place="task", name="comparison_tasks", title="Success by task", confidence=confidence
    )
    return (by_suite, tables.differences(pairs), by_task) if pairs else (by_suite, by_task)


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
    marks = sorted({record.fingerprint for record in run.records if record.fingerprint})
    if len(marks) > 1:
        yield f"The records carry {len(marks)} fingerprints ({', '.join(marks)}): no single table should."
    if run.superseded:
        yield f"{run.superseded} records were superseded by another record of the same episode and arm."
    yield from run.problems
    yield from _errors(run.records)


def _by_place(run: Run) -> dict[str, list[Record]]:
    """Records by suite and variation: suites in the order of the study, then those of single tasks.

    A varied task is another task: its episodes never enter the rate of the unchanged one.
    """
    suites = [*run.header.study.get("suites", ()), *(record.suite for record in run.records)]
    order = {suite: place for place, suite in enumerate(dict.fromkeys(suites))}
    found: dict[str, list[Record]] = {}
    for record in sorted(run.records, key=lambda record: (order[record.suite], record.variation)):
        found.setdefault(of.varied(record.suite, record), []).append(record)
    return found


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
