"""Ways of fine-tuning beside each other: what each reached and cost here, and in OpenVLA's paper.

`data/finetuning.csv` has the paper's numbers (arXiv 2406.09246, table 1): tasks of a real robot, batches of
16 in bfloat16.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_bench.account.statistics import wilson
from vla_bench.account.tables.table import (
    ERRORS,
    UNDEFINED,
    Number,
    Table,
    ends,
    interval_text,
    percent,
    size,
)

_FILE = Path(__file__).parent / "data" / "finetuning.csv"


@dataclass(frozen=True, slots=True)
class Published:
    """A row of the paper; `rank` is empty but for LoRA, and `note` says what must be known."""

    success_percent: float
    stderr: float
    trials: int
    trained_m: float
    memory_gb: float
    note: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What a way of fine-tuning came to here.

    Attributes:
        strategy: Its name.
        rank: Of adapters, if it has any.
        trained, parameters: How many numbers are trained, of how many.
        peak_bytes: Of memory; `idle_bytes` of it were taken before the model was loaded.
        ratios: Processor time of a step (on a GPU: time) over that of the first way, one number a turn.
        successes, n, errors: Of the episodes that it played.
        refused: Why it could not be; nothing else is known then.
    """

    strategy: str
    rank: int | None = None
    trained: int = 0
    parameters: int = 0
    peak_bytes: int = 0
    idle_bytes: int = 0
    ratios: Sequence[float] = ()
    successes: int = 0
    n: int = 0
    errors: int = 0
    refused: str = ""


@functools.cache
def published() -> Mapping[tuple[str, int | None], Published]:
    """Strategy and rank → what the paper says."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return {
            (row["strategy"], int(row["rank"]) if row["rank"] else None): Published(
                float(row["success_percent"]), float(row["stderr"]), int(row["trials"]),
                float(row["trained_m"]), float(row["memory_gb"]), row["note"],
            )
            for row in csv.DictReader(file)
        }  # fmt: skip


def finetuning_table(
    rows: Sequence[Measured], *, of: str, played: str, device: str, confidence: float = 0.95
) -> Table:
    """Rows of ways of fine-tuning.

    Args:
        rows: The first one is what the times of the others are divided by.
        of: What was fine-tuned on what, and for how long.
        played: What was played afterwards; empty if nothing was.
        device: Where they were trained.
        confidence: Of the intervals.
    """
    refused = [f"{row.strategy}: {row.refused}." for row in rows if row.refused]
    caption = (
        f"{of}, on {device}. Step: processor time of a step (on a GPU: time) over that of "
        f"{rows[0].strategy}, median of the turns and [smallest, largest]; the ways took turns. Memory: the "
        "most that the process had taken (on a GPU: its tensors), and what it had taken before the model was "
        "loaded.",
        f"Success: {played}; {100 * confidence:g} % Wilson interval. {ERRORS}"
        if played
        else "Success: not played.",
        "Paper: OpenVLA's 7 billion parameters on tasks of a real robot, batches of 16 (arXiv 2406.09246, "
        "table 1), success ± standard error of 33 trials; another world, that nothing here is compared with.",
        *refused,
    )
    return Table(
        name="finetuning", title="Ways of fine-tuning", caption=caption,
        header=(
            "strategy", "success", "trained", "of all", "memory", "step",
            "paper: success", "paper: trained", "paper: memory",
        ),
        rows=tuple(_words(row, confidence) for row in rows), text_columns=1, bold=frozenset(),
        numbers_header=(
            "strategy", "rank", "successes", "n", "errors", "rate", "low", "high", "trained", "parameters",
            "peak_bytes", "idle_bytes", "step_ratio", "step_ratio_least", "step_ratio_most", "refused",
            "paper_success_percent", "paper_stderr", "paper_trials", "paper_trained_m", "paper_memory_gb",
        ),
        numbers=tuple(_numbers(row, confidence) for row in rows),
    )  # fmt: skip


def _words(row: Measured, confidence: float) -> tuple[str, ...]:
    known = published().get((row.strategy, row.rank))
    name = row.strategy if row.rank is None else f"{row.strategy}, rank {row.rank}"
    paper = [UNDEFINED] * 3
    if known:
        gpus = f" ({known.note})" if known.note else ""
        paper = [
            f"{known.success_percent:g} ± {known.stderr:g} %", f"{known.trained_m:g} M",
            f"{known.memory_gb:g} GB{gpus}",
        ]  # fmt: skip
    if row.refused:
        return (name, *[UNDEFINED] * 5, *paper)
    interval = wilson(row.successes, row.n, confidence)
    success = (
        f"{percent(row.successes / row.n)} [{interval_text(interval)}] {row.successes}/{row.n}"
        if row.n
        else UNDEFINED
    )
    return (
        name,
        success + (f", {row.errors} errors" if row.errors else ""),
        f"{row.trained / 1e6:.3g} M",
        f"{percent(row.trained / row.parameters)} %",
        f"{size(row.peak_bytes)}, {size(row.idle_bytes)}",
        _ratio(row.ratios),
        *paper,
    )


def _ratio(ratios: Sequence[float]) -> str:
    if not ratios:
        return UNDEFINED
    return f"{np.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def _numbers(row: Measured, confidence: float) -> tuple[Number, ...]:
    known = published().get((row.strategy, row.rank))
    paper = (None,) * 5
    if known:
        paper = (
            known.success_percent, known.stderr, known.trials, known.trained_m, known.memory_gb,
        )  # fmt: skip
    if row.refused:
        return (row.strategy, row.rank, *(None,) * 13, row.refused, *paper)
    ratios = (float(np.median(row.ratios)), min(row.ratios), max(row.ratios)) if row.ratios else (None,) * 3
    return (
        row.strategy, row.rank, row.successes, row.n, row.errors, row.successes / row.n if row.n else None,
        *ends(wilson(row.successes, row.n, confidence)), row.trained, row.parameters, row.peak_bytes,
        row.idle_bytes, *ratios, None, *paper,
    )  # fmt: skip
