"""Statistics of recorded numbers and pictures, in the form of LeRobot's `meta/stats.json`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_bench.types import Array, Image

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

Statistics = dict[str, list[Any]]


def of_numbers(values: Array) -> Statistics:
    """(N, D) values → statistics of each of the D numbers."""
    summary = {
        "min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0),
        **{name: np.quantile(values, share, axis=0) for name, share in QUANTILES.items()},
    }  # fmt: skip
    return {name: [float(x) for x in value] for name, value in summary.items()} | {"count": [len(values)]}


def levels_of(picture: Image) -> NDArray[np.int64]:
    """(H, W, 3) picture → (3, 256) how often each level occurs in each channel."""
    return np.stack([np.bincount(picture[..., channel].ravel(), minlength=256) for channel in range(3)])


def of_levels(counts: NDArray[np.int64], pictures: int) -> Statistics:
    """(3, 256) counts of levels in a number of pictures → statistics of each channel, levels in 0 … 1.

    They are those of all pixels; a channel's value stands alone in two brackets, as LeRobot has it.
    """
    level = np.arange(256) / 255.0
    total = counts.sum(1)
    mean = counts @ level / total
    summary = {
        "min": [level[np.flatnonzero(row)[0]] for row in counts],
        "max": [level[np.flatnonzero(row)[-1]] for row in counts],
        "mean": mean,
        "std": np.sqrt(np.maximum(counts @ level**2 / total - mean**2, 0.0)),
        **{name: [_quantile(row, share) for row in counts] for name, share in QUANTILES.items()},
    }
    return {name: [[[float(x)]] for x in value] for name, value in summary.items()} | {"count": [pictures]}


def _quantile(counts: NDArray[np.int64], share: float) -> float:
    """The lowest level that at least that share of the pixels do not exceed."""
    return int(np.searchsorted(np.cumsum(counts), share * counts.sum())) / 255.0
