"""How a run stands: counts an arm, speed, and an estimate of the time that is left; no clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from vla_bench.run.plan import WorkItem
from vla_bench.run.records import Record
from vla_bench.types import Arm


@dataclass(slots=True)
class Tally:
    """What is known of an arm, or of all of them.

    Attributes:
        planned: Episodes of the plan.
        successes, failures: Of all sessions.
        errors: Of this session; those of earlier ones are played again.
        played: Episodes of this session, however they ended.
        busy_s: Seconds on the wall that these took, one after the other.
        steps: Of this session.
    """

    planned: int = 0
    successes: int = 0
    failures: int = 0
    errors: int = 0
    played: int = 0
    busy_s: float = 0.0
    steps: int = 0

    @property
    def trials(self) -> int:
        """Episodes that have a result."""
        return self.successes + self.failures

    @property
    def recorded(self) -> int:
        """Episodes that have a result, or ended in an error in this session."""
        return self.trials + self.errors

    @property
    def left(self) -> int:
        """Episodes that this session has not played yet."""
        return self.planned - self.recorded

    def count(self, status: str) -> None:
        """Count an episode that ended with a status."""
        name = {"success": "successes", "failure": "failures", "error": "errors"}[status]
        setattr(self, name, getattr(self, name) + 1)

    def __str__(self) -> str:
        return f"{self.successes} succeeded, {self.failures} failed, {self.errors} errors"


class Standing:
    """How a run stands; its size does not depend on the number of episodes.

    Args:
        items: What is planned.
        statuses: Key → status of what earlier sessions recorded.
        confidence: Of the intervals of success rates.

    Attributes:
        arms: In the order of the plan.
    """

    def __init__(
        self, items: Iterable[WorkItem], statuses: Mapping[str, str] | None = None, confidence: float = 0.95
    ) -> None:
        self.arms: dict[Arm, Tally] = {}
        self.confidence = confidence
        self._began_s: float | None = None
        self._last_s = 0.0
        for item in items:
            tally = self.arms.setdefault(item.arm, Tally())
            tally.planned += 1
            status = (statuses or {}).get(item.key, "error")
            if status != "error":
                tally.count(status)

    def see(self, record: Record, now_s: float) -> None:
        """Take in a record of this session; `now_s` is the time of a clock that never goes back."""
        if self._began_s is None:
            self._began_s = now_s - record.wall_s  # not earlier: until then, policies were being loaded
        self._last_s = now_s
        tally = self.arms[record.arm]
        tally.count(record.status)
        tally.played += 1
        tally.busy_s += record.wall_s
        tally.steps += record.steps

    @property
    def total(self) -> Tally:
        """All arms together."""
        names = [field.name for field in fields(Tally)]
        return Tally(**{name: sum(getattr(tally, name) for tally in self.arms.values()) for name in names})

    def interval(self, tally: Tally) -> tuple[float, float] | None:
        """Wilson's interval of a success rate; None without trials."""
        from vla_bench.account.statistics.rates import wilson

        found = wilson(tally.successes, tally.trials, self.confidence)
        return None if found is None else (found.low, found.high)

    def steps_per_s(self, now_s: float) -> float | None:
        """Policy steps of all simulators in a second of this session, since its first episode began."""
        if self._began_s is None or now_s <= self._began_s:
            return None
        return self.total.steps / (now_s - self._began_s)

    def left_s(self, now_s: float) -> float | None:
        """Seconds until all is played; None before the first record.

        An arm's episodes are taken to last as long as those that this session has played, and those of an
        arm without any as long as the mean of all; as much is done side by side as was so far.
        """
        if self._began_s is None:
            return None
        total, elapsed_s = self.total, self._last_s - self._began_s
        if total.busy_s == 0:  # nothing but episodes that could not begin
            estimate_s = total.left * elapsed_s / total.played
        else:
            mean_s = total.busy_s / total.played
            work_s = sum(
                tally.left * (tally.busy_s / tally.played if tally.played else mean_s)
                for tally in self.arms.values()
            )
            estimate_s = work_s * elapsed_s / total.busy_s
        return max(0.0, estimate_s - (now_s - self._last_s))

    def summary(self) -> dict[str, float]:
        """Counts of every arm, as `<arm>/<what>`: what trackers keep at the end."""
        return {
            f"{label(arm)}/{name}": float(value)
            for arm, tally in self.arms.items()
            for name, value in _numbers(tally).items()
        }


def label(arm: Arm) -> str:
    """An arm as a person reads it."""
    return arm.key.replace(",", " ")


def _numbers(tally: Tally) -> dict[str, float]:
    counts = {
        "planned": tally.planned, "n": tally.trials, "successes": tally.successes, "errors": tally.errors,
    }  # fmt: skip
    return counts | ({"success_rate": tally.successes / tally.trials} if tally.trials else {})
