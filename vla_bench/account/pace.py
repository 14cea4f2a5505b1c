"""What a pacing did to an arm: how fresh its actions were, how often it was late, how smoothly it moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_bench.account.cells import Cell, Outcomes
from vla_bench.run.records import Record, together
from vla_bench.types import Array


@dataclass(frozen=True, slots=True)
class Pace:
    """An arm at a place, over the episodes that count; None is not measured.

    Attributes:
        cell: Its rate and frequencies.
        score: Mean partial credit.
        success_s: Median simulated time of its successes.
        delay_p50_ms, delay_p95_ms: What inferences took on the virtual clock.
        stale_share: Share of the simulated time in which the robot had no fresh action, to its end.
        age_p50_ms, age_p95_ms: Age of the observation when the first action that answers it was applied.
        late_share: Share of the inferences that took longer than a policy period.
        jerk_m_s3: Median over episodes of the mean norm of the jerk.
    """

    cell: Cell
    score: float | None
    success_s: float | None
    delay_p50_ms: float | None
    delay_p95_ms: float | None
    stale_share: float | None
    age_p50_ms: float | None
    age_p95_ms: float | None
    late_share: float | None
    jerk_m_s3: float | None


def pace_of(cell: Cell, own: Outcomes, period_s: float | None) -> Pace:
    """The pace of the arm whose cell and outcomes these are; `period_s` is the suite's policy period."""
    records = list(own.counted.values())
    delays = together((record.inferences for record in records), "delay_ms")
    ages = together((record.inferences for record in records), "observation_age_ms")
    late = float(np.mean(delays > 1000 * period_s)) if period_s and delays.size else None
    return Pace(
        cell=cell,
        score=_mean([record.score for record in records]),
        success_s=_median([record.simulated_s for record in records if record.status == "success"]),
        delay_p50_ms=_percentile(delays, 50),
        delay_p95_ms=_percentile(delays, 95),
        stale_share=_stale_share(records, period_s),
        age_p50_ms=_percentile(ages, 50),
        age_p95_ms=_percentile(ages, 95),
        late_share=late,
        jerk_m_s3=_median([record.jerk_m_s3 for record in records if record.jerk_m_s3 is not None]),
    )


def _stale_share(records: Sequence[Record], period_s: float | None) -> float | None:
    simulated_s = sum(record.simulated_s for record in records)
    if not simulated_s or not period_s:
        return None
    return sum(_stale_s(record, period_s) for record in records) / simulated_s


def _stale_s(record: Record, period_s: float) -> float:
    """How long the robot had no fresh action: before each answer, as recorded, and after the last actions.

    A fresh action is one for a policy period, or until the next begins. How many of the last answer's were
    executed is what is left of the steps once those before it, told by how long they lasted, are counted.
    """
    calls = record.inferences
    if not calls.staleness_ms:
        return record.simulated_s * (record.steps == 0)  # no answer, or a world that waits and was not timed
    stale_s = np.asarray(calls.staleness_ms) / 1000
    applied_s = (np.asarray(calls.observed_ms) + np.asarray(calls.observation_age_ms)) / 1000
    lasted_s = np.diff(applied_s) - stale_s[1:]
    executed = record.steps - int(np.ceil(lasted_s / period_s - 1e-6).sum())
    after_s = record.simulated_s - applied_s[-1] - executed * period_s
    return float(min(record.simulated_s, stale_s.sum() + max(0.0, after_s)))


def _percentile(values: Array, q: float) -> float | None:
    return float(np.percentile(values, q)) if values.size else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
