"""What answering several requests together changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_bench.types import ActionChunk


@dataclass(slots=True)
class Changes:
    """Actions of batches beside those of the same requests one by one.

    Attributes:
        compared, changed: Numbers of an action that were looked at, and that differ in any bit.
        largest: The largest difference.
    """

    compared: int = 0
    changed: int = 0
    largest: float = 0.0

    def add(self, together: Sequence[ActionChunk], alone: Sequence[ActionChunk]) -> None:
        """Compare the chunks of one batch."""
        for ours, theirs in zip(together, alone, strict=True):
            difference = np.abs(np.asarray(ours.actions) - np.asarray(theirs.actions))
            self.compared += difference.size
            self.changed += int(np.count_nonzero(difference))
            self.largest = max(self.largest, float(difference.max(initial=0.0)))

    def __str__(self) -> str:
        share = 100 * self.changed / self.compared if self.compared else 0.0
        return (
            f"answering together changed {share:.2f} % of {self.compared} numbers of actions, "
            f"by at most {self.largest:.1e}"
        )
