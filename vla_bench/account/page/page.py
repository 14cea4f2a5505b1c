"""Writing the page: `index.html` in the results folder, or one file to send.

The results folder is the static folder: the page links to the videos, figures, tables and records beside it.
A page stays below `PAGE_BYTES`; episodes and tables that do not fit stand on further pages of the same kind.
The same records give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vla_bench.account.page.episodes import KINDS, Group, Listing, list_episodes
from vla_bench.account.page.pictures import Picture, picture
from vla_bench.account.page.render import render
from vla_bench.account.provenance import caveat_lines, error_lines
from vla_bench.account.report import Report
from vla_bench.account.tables import Table
from vla_bench.errors import VlaBenchError
from vla_bench.run.records import Run

INDEX = "index.html"
PAGE_BYTES = 1_900_000  # without videos and figures, which are files beside it
TABLE_ROWS = 600  # of all tables on the first page; a table for which no room is left has its own


def write_page(run: Run, report: Report) -> tuple[Path, ...]:
    """Write `index.html`, and the pages that it is continued on, into the folder of a run and its report.

    Raises:
        VlaBenchError: The folder cannot be written.
    """
    about, listing = _about(run), list_episodes(run)
    files = {path.name: quote(path.relative_to(run.folder).as_posix()) for path in report.files}
    shown, apart = _placed(report.tables)
    index = {
        **about, "listing": listing, "tables": shown, "apart": apart, "single": False, "files": files,
        "records": [quote(path.name) for path in _records(run.folder)],
        "pictures": _pictures(run, report, inlined=False),
    }  # fmt: skip
    shell = render("index.html", **index, pages=[INDEX], sections=[])
    parts = _parts(listing, room=PAGE_BYTES - len(shell.encode()), single=False)
    pages = [INDEX, *(f"episodes-{number}.html" for number in range(2, len(parts) + 1))]
    texts = {INDEX: render("index.html", **index, pages=pages, sections=_sections(parts[0]))}
    for name, part in zip(pages[1:], parts[1:], strict=True):
        texts[name] = render(
            "episodes.html", **about, listing=listing, pages=pages, page=name, sections=_sections(part)
        )
    for table in apart:
        texts[f"table-{table.name}.html"] = render("table.html", **about, table=table, files=files)
    for old in {*run.folder.glob("episodes-*.html"), *run.folder.glob("table-*.html")}:
        if old.name not in texts:  # of a report on fewer records
            old.unlink()
    return tuple(_write(run.folder / name, text) for name, text in texts.items())


def write_single_file(run: Run, report: Report) -> Path:
    """Write everything but videos and very long tables into one file, named after the study.

    Raises:
        VlaBenchError: The folder cannot be written.
    """
    listing = list_episodes(run)
    shown, apart = _placed(report.tables)
    text = render(
        "index.html", **_about(run), listing=listing, tables=shown, apart=apart, single=True,
        files={}, records=[], pictures=_pictures(run, report, inlined=True), pages=[INDEX],
        sections=_sections(_parts(listing, room=None, single=True)[0]),
    )  # fmt: skip
    stem = re.sub(r"[^\w.-]+", "_", run.header.study_name)
    return _write(run.folder / f"{stem}-{run.header.study_hash[:8]}.html", text)


def _pictures(run: Run, report: Report, *, inlined: bool) -> list[Picture]:
    addresses = {path.name: quote(path.relative_to(run.folder).as_posix()) for path in report.files}
    return [picture(figure, run.folder, addresses, inlined=inlined) for figure in report.figures]


def _about(run: Run) -> dict[str, Any]:
    """What a run was, for the head and the foot of a page."""
    records, study = run.records, run.header.study
    statuses = [record.status for record in records]
    return {
        "name": f"{run.header.study_name}-{run.header.study_hash[:8]}",
        "title": str(study.get("title") or run.header.study_name),
        "planned": run.header.planned, "recorded": len(records),
        "counts": {status: statuses.count(status) for status in ("success", "failure", "error")},
        "suites": list(dict.fromkeys(record.suite for record in records)),
        "tasks": len({record.task_id for record in records}),
        "variations": len({record.variation for record in records if record.variation}),
        "against": [*caveat_lines(run), *error_lines(run.records)],
        "run": run.header, "study": json.dumps(study, indent=2, ensure_ascii=False),
    }  # fmt: skip


def _records(folder: Path) -> list[Path]:
    """What a run wrote, beside its videos."""
    return [path for pattern in ("run.json", "*.jsonl", "*.parquet") for path in sorted(folder.glob(pattern))]


def _placed(tables: Iterable[Table]) -> tuple[list[Table], list[Table]]:
    """The tables that the first page has room for, and the others."""
    room = TABLE_ROWS
    shown: list[Table] = []
    apart: list[Table] = []
    for table in tables:
        fits = len(table.rows) <= room
        (shown if fits else apart).append(table)
        room -= len(table.rows) * fits
    return shown, apart


def _parts(listing: Listing, *, room: int | None, single: bool) -> list[list[tuple[Group, str]]]:
    """Groups as HTML, page by page; `room` is that of the first page in bytes, None for all."""
    parts: list[list[tuple[Group, str]]] = [[]]
    for group in listing.groups:
        block = render("group.html", group=group, arms=listing.arms, single=single, errors_at=INDEX)
        size = len(block.encode())
        if room is not None:
            if size > room and parts[-1]:
                parts.append([])
                room = PAGE_BYTES
            room -= size
        parts[-1].append((group, block))
    return parts


def _sections(part: Iterable[tuple[Group, str]]) -> list[Mapping[str, Any]]:
    """The groups of a page by kind."""
    from markupsafe import Markup

    found: list[Mapping[str, Any]] = []
    for kind, own in groupby(part, key=lambda item: item[0].kind):
        groups = list(own)
        rows = sum(len(group.rows) for group, _ in groups)
        blocks = [Markup(block) for _, block in groups]
        found.append({"kind": kind, "title": KINDS[kind], "rows": rows, "groups": blocks})
    return found


def _write(path: Path, text: str) -> Path:
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise VlaBenchError(f"{path} cannot be written: {error.strerror}") from error
    return path
