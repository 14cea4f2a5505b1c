"""What a pacing is called: a mode, and the options in which it differs from that mode's defaults.

`chunk_async@restart+free` is the mode `chunk_async` with two options. An option is said only where it is not
the default, so that one pacing has one name.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Align = Literal["index", "restart"]
Merge = Literal["replace", "ensemble", "rtc"]
FirstAction = Literal["hold", "free", "wait"]

# option → the field that it sets; the words of all fields differ
WORDS = {
    "index": "align", "restart": "align",
    "replace": "merge", "ensemble": "merge", "rtc": "merge",
    "hold": "first_action", "free": "first_action", "wait": "first_action",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pacing:
    """How simulated time relates to thinking.

    Attributes:
        mode: `blocking`, `realtime`, `chunk_sync` or `chunk_async`.
        align: Where a late chunk begins: at the action that is due now (`index`), or its first (`restart`).
        merge: What happens to the rest of the chunk before: `replace` forgets it, `ensemble` averages all
            that is said about an instant, `rtc` lets the policy continue it.
        first_action: Until the first chunk arrives, the robot holds its place (`hold`), the world waits and
            the time counts (`wait`), or the chunk is there at once (`free`).
    """

    mode: str
    align: Align = "index"
    merge: Merge = "replace"
    first_action: FirstAction = "hold"

    def __str__(self) -> str:
        options = [getattr(self, f.name) for f in fields(self)[1:] if getattr(self, f.name) != f.default]
        return f"{self.mode}@{'+'.join(options)}" if options else self.mode
