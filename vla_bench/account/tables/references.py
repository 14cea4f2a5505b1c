"""Our rates against published ones, with a verdict that a test gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vla_bench.account.cells import Cell
from vla_bench.account.counted import Counted, Place
from vla_bench.account.statistics.reproduction import Verdict, against_published
from vla_bench.account.tables.table import (
    ARM_COLUMNS,
    ERRORS,
    UNDEFINED,
    Number,
    Table,
    arm_numbers,
    constant_columns,
    ends,
    interval_text,
    marked,
    marks_said,
    p_text,
    percent,
    shown_columns,
)
from vla_bench.run.records.header import PublishedRate

MARGIN = 0.05  # what counts as the same rate
_PERCENT = "success_percent"  # of whole successes; what else cards hold is no rate of episodes


@dataclass(frozen=True, slots=True)
class _Row:
    cell: Cell
    number: PublishedRate
    verdict: Verdict


def tables(counted: Counted) -> Iterator[Table]:
    """`references`: every arm on an unvaried suite for which its policy's card names a published result."""
    rows = [
        _Row(cell, number, _verdict(counted, place, cell, number))
        for place in counted.unvaried
        for cell in place.cells
        for number in counted.header.references.get(cell.arm.policy, ())
        if number.suite == place.suite
    ]
    if rows:
        yield _table(rows, counted.confidence)


def _verdict(counted: Counted, place: Place, cell: Cell, number: PublishedRate) -> Verdict:
    published = number.value / 100 if number.metric == _PERCENT else 0.0
    return against_published(
        cell.successes, cell.n, published, published_n=number.trials, margin=MARGIN,
        alpha=1 - counted.confidence, incomparable=_incomparable(counted, place, cell, number),
    )  # fmt: skip


def _incomparable(counted: Counted, place: Place, cell: Cell, number: PublishedRate) -> str:
    """Why two numbers are not of one thing; "" if they are, as far as the records know."""
    own = place.outcomes[cell.arm].counted.values()
    stand_ins = any(session.assets and session.assets.stand_ins for session in counted.header.sessions)
    if number.metric != _PERCENT:
        return f"the published number is a {number.metric.replace('_', ' ')}, not a share of successes"
    if cell.arm.pacing != "blocking":
        return "published with a world that waits for the policy"
    if stand_ins:
        return "stand-in assets: other pictures"
    if len({record.fingerprint for record in own}) > 1:
        return "records of several fingerprints"
    if cell.errors:
        return f"{cell.errors} episodes ended in errors"
    if place.suite not in counted.header.study.get("suites", ()):
        return "only some tasks of the suite were run"
    return ""


def _table(rows: Sequence[_Row], confidence: float) -> Table:
    arms = [row.cell.arm for row in rows]
    shown = shown_columns(arms)
    sources = _numbered([_source(row.number) for row in rows])
    told = _numbered([row.verdict.reason for row in rows])
    reasons = {reason: "abcdefghijklmnopqrstuvwxyz"[(i - 1) % 26] for reason, i in told.items()}
    sentences = (
        "Unvaried episodes, each with the same weight, beside what was published for the checkpoint on the "
        f"suite{constant_columns(arms, shown)}.",
        f"Verdict: reproduced where the difference is shown to be less than {100 * MARGIN:g} points (two "
        "one-sided tests); not reproduced where that is not shown and the rates differ (p below "
        f"{1 - confidence:.3g}); else inconclusive. No correction is made over rows.",
        *(f"({letter}) {reason}." for reason, letter in reasons.items()),
        *(f"[{number}] {source}." for source, number in sources.items()),
        "What is published holds for the checkpoint as it was released, at the precision of its release.",
        ERRORS,
        marks_said() if any(row.cell.errors for row in rows) else "",
    )
    return Table(
        name="references", title="Against published numbers", caption=tuple(filter(None, sentences)),
        header=(
            "suite", *shown, "verdict", "successes", "rate %", f"{100 * confidence:g} % interval",
            "published %", "trials", "source", "p same", "p differ",
        ),
        rows=tuple(
            (
                row.cell.place, *(ARM_COLUMNS[c](row.cell.arm) for c in shown),
                f"{row.verdict.word} ({reasons[row.verdict.reason]})",
                marked(f"{row.cell.successes}/{row.cell.n}", row.cell.errors), percent(row.cell.rate),
                interval_text(row.cell.interval), _published(row.number),
                UNDEFINED if row.number.trials is None else str(row.number.trials),
                f"[{sources[_source(row.number)]}]", _p(row.verdict.p_equivalent),
                _p(row.verdict.p_different),
            )
            for row in rows
        ),
        text_columns=2 + len(shown), bold=frozenset(),
        numbers_header=(
            "suite", *ARM_COLUMNS, "successes", "n", "rate", "low", "high", "metric", "published", "stderr",
            "trials", "verdict", "p_equivalent", "p_different", "because", "source", "note",
        ),
        numbers=tuple(_numbers(row) for row in rows),
    )  # fmt: skip


def _numbered(words: Sequence[str]) -> dict[str, int]:
    return {word: i for i, word in enumerate(dict.fromkeys(words), start=1)}


def _source(number: PublishedRate) -> str:
    return f"{number.source} ({number.note})" if number.note else number.source


def _p(p: float | None) -> str:
    return UNDEFINED if p is None else p_text(p)


def _published(number: PublishedRate) -> str:
    error = "" if number.stderr is None else f" ± {number.stderr:g}"
    return f"{number.value:g}{error}"


def _numbers(row: _Row) -> tuple[Number, ...]:
    cell, number, verdict = row.cell, row.number, row.verdict
    return (
        cell.place, *arm_numbers(cell.arm), cell.successes, cell.n, cell.rate, *ends(cell.interval),
        number.metric, number.value, number.stderr, number.trials, verdict.word, verdict.p_equivalent,
        verdict.p_different, verdict.reason, number.source, number.note,
    )  # fmt: skip
