"""A table on a terminal that changes in place, with messages above it."""

from __future__ import annotations

import logging
import sys
import time
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vla_bench.run.display.standing import Standing, Tally, label
from vla_bench.run.display.usage import Sampler
from vla_bench.run.display.views import MOST_ARMS, left, one_line, rate, success
from vla_bench.run.hosting import gpus

_REFRESHES_PER_S = 2
_ROUND_THE_ARMS = 6  # lines of the terminal: heads, totals, and what is below
_BAR = 20


def has_terminal() -> bool:
    """Whether standard error is a terminal that can move its cursor."""
    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


class Live:
    """Arms × episodes done, success with interval, errors, speed, load of the machine, time left.

    Args:
        standing: What is shown.
        console: Where; standard error unless said.
    """

    level = logging.INFO

    def __init__(self, standing: Standing, console: Console | None = None) -> None:
        self._standing = standing
        self._console = console or Console(stderr=True, highlight=False)
        self._usage = Sampler(gpus())
        self._live = RichLive(
            console=self._console, get_renderable=self.render, refresh_per_second=_REFRESHES_PER_S,
            redirect_stdout=sys.stdout.isatty(), vertical_overflow="crop",
        )  # fmt: skip

    def saw(self) -> None:
        """Nothing: the table is drawn by a thread of its own."""

    def say(self, text: str) -> None:
        """Show a line above the table."""
        self._console.print(Text(one_line(text)), soft_wrap=True)

    def __enter__(self) -> Self:
        self._standing.interval(Tally(successes=1, failures=1))  # what it imports is not imported by a thread
        self._usage.__enter__()
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)
        self._usage.__exit__()

    def render(self) -> RenderableType:
        """The table of now."""
        standing, now_s = self._standing, time.monotonic()
        table = Table(box=None, pad_edge=False)
        table.add_column("arm", overflow="fold")
        for name in ("", "episodes", "success", "errors"):
            table.add_column(name, justify="right")
        arms = standing.arms
        if 1 < len(arms) <= min(MOST_ARMS, self._console.height - _ROUND_THE_ARMS):
            for arm, tally in arms.items():
                table.add_row(*self._cells(label(arm), tally))
        name = label(next(iter(arms))) if len(arms) == 1 else f"all {len(arms)} arms"
        table.add_row(*self._cells(name, standing.total), style="bold")
        below = (rate(standing, now_s), str(self._usage.latest), left(standing, now_s) or "preparing")
        return Group(table, Text(", ".join(filter(None, below))))

    def _cells(self, name: str, tally: Tally) -> tuple[RenderableType, ...]:
        bar = ProgressBar(total=max(1, tally.planned), completed=tally.recorded, width=_BAR)
        counts = f"{tally.recorded}/{tally.planned}"
        return Text(name), bar, counts, Text(success(self._standing, tally)), str(tally.errors)
