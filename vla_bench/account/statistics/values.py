"""What statistics return."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """Lower and upper end: of a rate in [0, 1], of a difference of rates in [-1, 1]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: The estimate.
        interval: None where nothing can be said about the uncertainty; `method` then says why.
        method: How the interval was made, or why there is none, for a caption.
        warning: Why the interval may not cover as often as it says; "" if it should.
    """

    value: float
    interval: Interval | None
    method: str
    warning: str = ""
