"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["good", "note", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it stands, and a sentence."""

    name: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:7}{self.name:14}{self.text}"

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)
