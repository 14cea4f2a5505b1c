"""Writes what `docs/` says of the certificates: `python -m vla_bench.axes.certificate_page docs`.

The page is a function of the shipped tables, and a test holds it to them. Run this after `vla-bench certify`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from vla_bench import catalog
from vla_bench.axes.certificates import Certificate, certificates
from vla_bench.axes.variation import parse

PAGE = "certificates.md"
COUNTED_LEVELS = 3  # levels up to this one are the ones that tables of policies should use first

_HEAD = """# Certificates: which varied tasks can be solved

Written by `python -m vla_bench.axes.certificate_page docs` from the tables in `tasks/certificates/`; do
not edit.

`vla-bench certify` lets the scripted expert try every factor at every level on seeds of their own,
whole cells at a time, and counts how many pixels of what the goal names the policy's camera shows
(segmentation). A cell is certified when the lower end of the 95 % Wilson interval reaches .7 both for
draws solved and for draws seen, and when the goal is unchanged, or changed as the factor's file says.
Draws stop at the first of 9, 15, 21 … at which that is decided, which lets through 7 % of cells whose
true rate is exactly .7; an unvaried task has all its draws. The expert sees the state and not the
picture: fog does not hinder it, and its rate is a reference for policies and no upper bound. `vla-bench
plan` refuses what is not certified unless it is told `--uncertified`.
"""


def page() -> str:
    """Counts by suite and factor, and every cell that is not certified with the reason, as Markdown."""
    rows = {name: list(certificates(name).values()) for name in catalog.suites()}
    rows = {name: found for name, found in rows.items() if found}
    varied = {name: found for name, found in rows.items() if any(row.variation for row in found)}
    parts = [_HEAD, "## Unvaried tasks", "", *_unvaried(rows), "", "## Varied tasks", "", *_by_level(varied)]
    parts += [
        "",
        f"By factor, levels 1 to {COUNTED_LEVELS}, certified of applicable cells:",
        "",
        *_by_factor(varied),
    ]
    parts += ["", "## Not certified", ""]
    for name, found in rows.items():
        parts += [f"### {name}", "", *_failed(found), ""]
    return "\n".join(parts)


def write(folder: Path) -> Path:
    """Write the page into a folder."""
    path = folder / PAGE
    path.write_text(page(), encoding="utf-8")
    return path


def _unvaried(rows: dict[str, list[Certificate]]) -> list[str]:
    table = ["| suite | tasks | draws | solved | least solved task | seen |", "|---|---|---|---|---|---|"]
    for name, found in rows.items():
        plain = [row for row in found if not row.variation]
        if not plain:
            continue
        n, solved, seen = (sum(getattr(row, key) for row in plain) for key in ("n", "solved", "seen"))
        worst = min(plain, key=lambda row: row.solved / row.n)
        least = f"{worst.solved}/{worst.n} {worst.task.partition('/')[2]}"
        table.append(f"| {name} | {len(plain)} | {n} | {_share(solved, n)} | {least} | {_share(seen, n)} |")
    return table


def _by_level(rows: dict[str, list[Certificate]]) -> list[str]:
    levels = range(1, 6)
    head = [f"level {level}" for level in levels] + [f"levels 1–{COUNTED_LEVELS}"]
    table = [f"| suite | tasks | {' | '.join(head)} |", "|---" * (len(head) + 2) + "|"]
    for name, found in rows.items():
        varied = [row for row in found if row.variation]
        cells = [[row for row in varied if _level(row) == level] for level in levels]
        cells.append([row for row in varied if _level(row) <= COUNTED_LEVELS])
        tasks = len({row.task for row in varied})
        table.append(f"| {name} | {tasks} | {' | '.join(map(_certified, cells))} |")
    return table


def _by_factor(rows: dict[str, list[Certificate]]) -> list[str]:
    counted: dict[str, dict[str, list[Certificate]]] = {}
    for name, found in rows.items():
        for row in found:
            if row.variation and _level(row) <= COUNTED_LEVELS:
                factors = "+".join(factor.id for factor, _ in parse(row.variation))
                counted.setdefault(factors, {}).setdefault(name, []).append(row)
    table = [f"| factor | {' | '.join(rows)} |", "|---" * (len(rows) + 1) + "|"]
    for factors, by_suite in sorted(counted.items()):
        cells = [_fraction(by_suite.get(name, [])) for name in rows]
        table.append(f"| `{factors}` | {' | '.join(cells)} |")
    return table


def _failed(found: Sequence[Certificate]) -> list[str]:
    failed = [row for row in found if not row.certified]
    return [
        f"* `{row.variation or 'unvaried'}` on {row.task.partition('/')[2]}: {'; '.join(row.shortcomings)}"
        + (f" ({row.reason})" if row.reason else "")
        for row in failed
    ] or ["Nothing."]


def _level(row: Certificate) -> int:
    return max(level for _, level in parse(row.variation))


def _certified(cells: Sequence[Certificate]) -> str:
    return _share(sum(row.certified for row in cells), len(cells)) if cells else "–"


def _fraction(cells: Sequence[Certificate]) -> str:
    return f"{sum(row.certified for row in cells)}/{len(cells)}" if cells else "–"


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({100 * part / whole:.1f} %)"


def main(arguments: Iterable[str]) -> None:
    """Write into the folder that is named, `docs` by default."""
    print(f"written: {write(Path(next(iter(arguments), 'docs')))}")


if __name__ == "__main__":
    main(sys.argv[1:])
