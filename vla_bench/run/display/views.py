"""What a person sees of a run: lines for logs, or only what went wrong; `live` has the table."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Protocol, Self

from vla_bench.errors import UnknownNameError
from vla_bench.run.display.standing import Standing, Tally, label
from vla_bench.run.display.usage import Sampler
from vla_bench.run.hosting import gpus

EVERY_S = 30.0  # a line of a log
PARTS = 10  # lines of a run that is faster
MOST_ARMS = 20  # beyond, only totals are shown


class View(Protocol):
    """Shows a run; a context while episodes are played.

    Attributes:
        level: Of the messages that it wants, as `logging` has them.
    """

    level: int

    def saw(self) -> None:
        """The standing has changed."""
        ...

    def say(self, text: str) -> None:
        """Show one line that stays."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Quiet:
    """What went wrong, and what is said with `say`."""

    level = logging.WARNING

    def __init__(self, standing: Standing) -> None:
        pass

    def saw(self) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Write a line without control characters."""
        print(one_line(text), file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Plain(Quiet):
    """A line every `EVERY_S` seconds, and at every tenth of the run; at the end one for each arm."""

    level = logging.INFO

    def __init__(self, standing: Standing, clock: Callable[[], float] = time.monotonic) -> None:
        self._standing, self._clock = standing, clock
        self._usage = Sampler(gpus())
        self._last_s = clock()
        self._part = self._parts(standing.total)

    def saw(self) -> None:
        """Write a line if it is time."""
        total, now_s = self._standing.total, self._clock()
        part = self._parts(total)
        if part > self._part or now_s - self._last_s >= EVERY_S:
            self._part, self._last_s = part, now_s
            self.say(line_of(self._standing, now_s, str(self._usage.latest)))

    def __enter__(self) -> Self:
        self._usage.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._usage.__exit__()
        if 1 < len(self._standing.arms) <= MOST_ARMS:
            for arm, tally in self._standing.arms.items():
                self.say(
                    f"{label(arm)}: {tally.recorded} of {tally.planned}, {success(self._standing, tally)}"
                )

    @staticmethod
    def _parts(total: Tally) -> int:
        return PARTS * total.recorded // max(1, total.planned)


def make_view(name: str | None, standing: Standing) -> View:
    """Return the view of a name; without one, `live` on a terminal and `plain` elsewhere.

    Raises:
        UnknownNameError: There is none of that name.
    """
    from vla_bench.run.display.live import Live, has_terminal

    views: dict[str, Callable[[Standing], View]] = {"live": Live, "plain": Plain, "quiet": Quiet}
    name = name or ("live" if has_terminal() else "plain")
    if name not in views:
        raise UnknownNameError("view", name, views)
    return views[name](standing)


def line_of(standing: Standing, now_s: float, usage: str) -> str:
    """A run on one line."""
    total = standing.total
    parts = [
        f"{total.recorded} of {total.planned} episodes ({total.recorded / max(1, total.planned):.0%})",
        success(standing, total),
        f"{total.errors} errors",
        rate(standing, now_s), usage, left(standing, now_s),
    ]  # fmt: skip
    return ", ".join(filter(None, parts))


def success(standing: Standing, tally: Tally) -> str:
    """A success rate with k, n and its interval."""
    interval = standing.interval(tally)
    if interval is None:
        return "no result yet"
    low, high = (100 * bound for bound in interval)
    return f"{tally.successes}/{tally.trials} = {tally.successes / tally.trials:.1%} [{low:.1f}, {high:.1f}]"


def rate(standing: Standing, now_s: float) -> str:
    """Steps in a second; nothing before the first record."""
    steps = standing.steps_per_s(now_s)
    return "" if steps is None else f"{steps:.1f} steps/s"


def left(standing: Standing, now_s: float) -> str:
    """The time that is left; nothing before the first record."""
    left_s = standing.left_s(now_s)
    return "" if left_s is None else f"{duration(left_s)} left"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def one_line(text: str) -> str:
    """A text without line ends and control characters, which messages of other programs may hold."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
