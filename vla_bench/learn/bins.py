"""What OpenVLA's 256 uniform bins do to a data set's actions: step, saturation and error of each number.

The bins lie between −1 and 1, and −1 and 1 are the 1st and 99th percentile of each number (or its extremes);
the gripper, the last number, is left as it is. What lies beyond saturates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_bench.learn.demonstrations import Demonstrations, all_actions
from vla_bench.policy.openvla.actions import ActionTokens, Bounds, Scaling
from vla_bench.types import Array

QUANTILES: dict[Bounds, tuple[float, float]] = {"q99": (0.01, 0.99), "minmax": (0.0, 1.0)}


@dataclass(frozen=True, slots=True)
class BinReport:
    """The bins of one number of the action, in its unit.

    Attributes:
        name: With its unit.
        bounds: Which statistics are ±1.
        scaled: Whether it is scaled at all.
        low, high: The statistics, or ±1.
        step: Distance of neighbouring values that can be said.
        saturated: How many of `count` values lie outside low … high.
        count: Number of values.
        error: Mean distance from a value to the one that is said for it.
    """

    name: str
    bounds: Bounds
    scaled: bool
    low: float
    high: float
    step: float
    saturated: int
    count: int
    error: float


def report_bins(demonstrations: Demonstrations) -> list[BinReport]:
    """Measure the bins on all actions of a data set, for both kinds of bounds.

    Raises:
        DataError: There are no actions, or they are not finite numbers.
    """
    actions = all_actions(demonstrations)
    units = demonstrations.conventions.units
    mask = np.array([name != "gripper" for name in units])
    reports: list[BinReport] = []
    for bounds, (low, high) in QUANTILES.items():
        scaling = _scaling(actions, mask, low, high)
        reports += _measure(actions, scaling, units, bounds)
    return reports


def _scaling(actions: Array, mask: NDArray[np.bool_], low: float, high: float) -> Scaling:
    ends = (np.quantile(actions, share, axis=0) for share in (low, high))
    lower, upper = (np.where(mask, end, default) for end, default in zip(ends, (-1.0, 1.0), strict=True))
    return Scaling(lower, upper, mask)


def _measure(actions: Array, scaling: Scaling, units: dict[str, float], bounds: Bounds) -> list[BinReport]:
    tokens = ActionTokens()
    said = scaling.unnormalise(tokens.decode(tokens.encode(scaling.normalise(actions))))
    outside = ((actions < scaling.low) | (actions > scaling.high)).sum(0)
    error = np.abs(said - actions).mean(0)
    steps = tokens.bins - 1
    return [
        BinReport(
            name, bounds, bool(scaling.mask[i]),
            low=float(scaling.low[i]) * unit, high=float(scaling.high[i]) * unit,
            step=float(scaling.high[i] - scaling.low[i]) / steps * unit,
            saturated=int(outside[i]), count=len(actions), error=float(error[i]) * unit,
        )
        for i, (name, unit) in enumerate(units.items())
    ]  # fmt: skip
