"""A run in the foreground: shown, told to trackers, and stopped cleanly by Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_bench.run.display.standing import Standing
from vla_bench.run.display.views import View, make_view
from vla_bench.run.executors import Executor
from vla_bench.run.executors.undecided import Undecided
from vla_bench.run.plan import Plan
from vla_bench.run.provenance import header_of
from vla_bench.run.records import Record, RunHeader, read_header
from vla_bench.run.records.reader import statuses
from vla_bench.run.records.writer import check_run
from vla_bench.run.runner import run_plan
from vla_bench.run.session import begin_session
from vla_bench.run.trackers import Sinks, Tracker

MOST_TOLD = 50  # different errors; a run must not grow with what its episodes say
log = logging.getLogger("vla_bench.run")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        finished: False if it was stopped by Ctrl-C.
        errors: Episodes of this session that ended in errors; the same command plays them again.
    """

    finished: bool
    errors: int


def run_with_progress(
    plan: Plan,
    folder: Path,
    command: Sequence[str],
    executor: Executor | Undecided | None = None,
    *,
    view: str | None = None,
    trackers: Sequence[Tracker] = (),
) -> Ended:
    """Run a plan in the foreground, and say how it stands.

    Args:
        plan: What is run.
        folder: Of results; looked at before anything else is done.
        command: For the header.
        executor: Who plays; one worker unless said.
        view: `live`, `plain` or `quiet`; by default what suits standard error.
        trackers: Who else is told.

    Raises:
        VlaBenchError: As `runner.run_plan`.
    """
    there = check_run(folder, plan.study.name, plan.study.hash, plan.hash)
    standing = Standing(plan.items, statuses(folder), plan.study.statistics.confidence)
    shown, sinks, errors = make_view(view, standing), Sinks(trackers), _Errors()

    def saw(record: Record) -> None:
        standing.see(record, time.monotonic())
        errors.tell(record)
        shown.saw()
        sinks.record(record)

    finished = False
    with _shown_by(shown):
        if done := standing.total.trials:
            log.info("%s: %d of %d episodes are done; continuing", folder, done, len(plan.items))
        try:
            header = header_of(plan, begin_session(plan, command))
            sinks.begin(_continuing(there, header))
            with shown:
                run_plan(plan, folder, header, saw, executor)
            finished = True
        except KeyboardInterrupt:
            log.debug("interrupted")
        finally:
            sinks.end(standing.summary())
        if finished:
            for loaded in read_header(folder).sessions[-1].loaded:
                log.info("%s: %s", loaded.policy, loaded.report)
    shown.say(_last_line(folder, standing, finished))
    return Ended(finished, standing.total.errors)


def _continuing(there: RunHeader | None, new: RunHeader) -> RunHeader:
    """The header with the sessions that were before."""
    return new if there is None else new.model_copy(update={"sessions": there.sessions + new.sessions})


def _last_line(folder: Path, standing: Standing, finished: bool) -> str:
    total = standing.total
    if not finished:
        return f"stopped; {total}; the same command continues"
    again = "; the same command runs those with errors again" if total.errors else ""
    return f"{folder}: {total.recorded} of {total.planned} episodes are recorded; {total}{again}"


class _Errors:
    """Tells each error of an arm once: what a machine lacks, it lacks every time."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def tell(self, record: Record) -> None:
        if record.error is None or len(self._told) > MOST_TOLD:
            return
        arm = f"{record.policy} at {record.precision}"
        if (arm, record.error.message) in self._told:
            return
        self._told.add((arm, record.error.message))
        if len(self._told) > MOST_TOLD:
            log.error("further errors are not shown; all are in the records")
        else:
            log.error("error in %s, %s: %s", record.episode.key, arm, record.error.message)


class _Messages(logging.Handler):
    """Messages of a run, in its view."""

    def __init__(self, view: View) -> None:
        super().__init__(view.level)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        self._view.say(record.getMessage())


@contextlib.contextmanager
def _shown_by(view: View) -> Iterator[None]:
    """Let a view show what the parts of a run say."""
    handler, before = _Messages(view), log.level
    log.addHandler(handler)
    log.setLevel(min(view.level, logging.INFO))
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
