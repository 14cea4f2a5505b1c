"""A training on a terminal: progress, a clean stop on Ctrl-C, evaluations by the ordinary runner."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vla_bench import catalog
from vla_bench.cli.shared import print_rows
from vla_bench.config import parse
from vla_bench.errors import VlaBenchError

if TYPE_CHECKING:
    from vla_bench.learn.training.config import TrainingConfig
    from vla_bench.learn.training.loop import Ended
    from vla_bench.learn.training.session import Goal, Session
    from vla_bench.types import Task

EVALUATIONS = "evaluations"


@dataclass(frozen=True, slots=True)
class Ends:
    """When a training ends, and what is done how often; see `training.config`."""

    max_steps: int | None
    max_minutes: float | None
    until_accuracy: float | None
    save_every: int
    evaluate_every: int
    keep: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training reads, writes and computes.

    Attributes:
        data: Data sets; the statistics are those of the first.
        out: Its folder.
        device: A name of torch's, or `auto`.
        held_out_changed: Whether what is held out may have changed since the data were recorded.
    """

    data: tuple[Path, ...]
    out: Path
    device: str
    held_out_changed: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """What evaluations play: suites and tasks, and so many episodes of each task."""

    suites: tuple[str, ...]
    tasks: tuple[str, ...]
    episodes: int


def run_training(
    goal: Goal, config: TrainingConfig, place: Place, ends: Ends, selection: Selection, *, as_json: bool
) -> None:
    """Train with a progress bar, and print what it came to; of several processes, the first one does so.

    Raises:
        VlaBenchError: As `session.open_session` and `loop.train`; evaluations have no task to play, or
            one of another frequency; or what is held out has changed since the data were recorded.
    """
    from rich.console import Console
    from rich.progress import Progress

    from vla_bench.learn import held_out
    from vla_bench.learn.demonstrations import check_frequency, open_demonstrations
    from vla_bench.learn.training.config import Limits, Rhythm
    from vla_bench.learn.training.loop import Watchers, train
    from vla_bench.learn.training.parallel import assembled
    from vla_bench.learn.training.session import TRAINING, open_session, write_policy

    limits = parse(
        Limits,
        {name: getattr(ends, name) for name in ("max_steps", "max_minutes", "until_accuracy")},
        "command line",
    )
    if ends.evaluate_every and not (selection.suites or selection.tasks):
        raise VlaBenchError("--evaluate-every needs something to play: --suite bridge_base, or --task")
    if not place.held_out_changed and not (place.out / TRAINING).is_file():
        held_out.require_unchanged(place.data)
    if ends.evaluate_every:
        check_frequency(open_demonstrations(place.data[0]), _played(selection))
    with (
        assembled(place.device) as (group, device),
        Progress(console=Console(stderr=True, highlight=False), disable=not group.writes) as progress,
        _stop_asked() as is_stopping,
    ):
        group.passes(config.accumulate)  # says so before anything is written if they cannot be shared out
        pictures = progress.add_task("pictures", total=None)
        session = open_session(
            goal, config, place.data, place.out, device,
            lambda done, total: progress.update(pictures, completed=done, total=total), group,
        )  # fmt: skip
        progress.remove_task(pictures)
        bar = progress.add_task("training", total=ends.max_steps)

        def show(step: int, loss: float, accuracy: float) -> None:
            right = "" if math.isnan(accuracy) else f", {100 * accuracy:.1f} % right"
            progress.update(bar, completed=step, description=f"loss {loss:.3f}{right}")

        def evaluate(checkpoint: Path, step: int) -> None:
            for row in evaluate_checkpoint(session, checkpoint, step, selection):
                progress.console.print(
                    f"step {step}: {row['task']}: {row['successes']} of {row['episodes']} succeeded"
                )

        rhythm = Rhythm(save=ends.save_every, evaluate=ends.evaluate_every, keep=ends.keep)
        watchers = Watchers(show, evaluate, is_stopping)
        ended = train(session.learner, session.batches, place.out, limits, rhythm, watchers, group)
    if not group.writes:
        return
    card = None
    if ended.reason != "interrupted":
        card = write_policy(session, ended.progress.step, ("fp32", "bf16"))
    _tell(session, ended, card, as_json=as_json)
    if card is None:
        raise typer.Exit(130)


def _played(selection: Selection) -> list[Task]:
    """The tasks that are named, and of each suite the first one: all of a suite run at one frequency."""
    suites = map(catalog.suite, selection.suites)
    return [*map(catalog.task, selection.tasks), *(suite.task(suite.stems()[0]) for suite in suites)]


def evaluate_checkpoint(
    session: Session, checkpoint: Path, step: int, selection: Selection
) -> list[dict[str, Any]]:
    """Play a checkpoint on seeds of the namespace `select`; returns a row a task.

    What was played before is not played again.
    """
    from vla_bench.learn.training.session import write_card
    from vla_bench.run.plan import make_plan
    from vla_bench.run.provenance import header_of
    from vla_bench.run.records import read_run
    from vla_bench.run.runner import run_plan
    from vla_bench.run.session import begin_session
    from vla_bench.run.study import load_study

    folder = session.folder / EVALUATIONS / f"step-{step:08d}"
    write_card(session, checkpoint.resolve(), folder)
    with know_cards_in(folder):
        study = load_study(
            suites=selection.suites, tasks=selection.tasks, episodes=selection.episodes,
            policies=(session.goal.name,), namespace="select",
        )  # fmt: skip
        plan = make_plan(study)
        run_plan(plan, folder / "run", header_of(plan, begin_session(plan, sys.argv)))
    rows: dict[str, dict[str, Any]] = {}
    for record in read_run(folder / "run").records:
        row = rows.setdefault(
            record.task_id, {"step": step, "task": record.task_id, "episodes": 0, "successes": 0, "errors": 0}
        )
        row["episodes"] += record.status != "error"
        row["successes"] += record.status == "success"
        row["errors"] += record.status == "error"
    path = session.folder / EVALUATIONS / "all.jsonl"
    kept = [line for line in _lines(path) if json.loads(line)["step"] < step]
    path.write_text("".join(f"{line}\n" for line in [*kept, *map(json.dumps, rows.values())]))
    return list(rows.values())


@contextmanager
def know_cards_in(folder: Path) -> Iterator[None]:
    """Let the catalog find the cards of a folder, in this process and those that it starts."""
    before = os.environ.get(catalog.POLICIES_DIR_VARIABLE)
    os.environ[catalog.POLICIES_DIR_VARIABLE] = os.pathsep.join(filter(None, (str(folder.resolve()), before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[catalog.POLICIES_DIR_VARIABLE]
        else:
            os.environ[catalog.POLICIES_DIR_VARIABLE] = before


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is remembered instead of raised, so that a step is never half done; a second one is raised."""
    asked: list[int] = []

    def remember(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        asked.append(number)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _tell(session: Session, ended: Ended, card: Path | None, *, as_json: bool) -> None:
    told = {
        "folder": str(session.folder), "ended_by": ended.reason, "step": ended.progress.step,
        "minutes": ended.progress.seconds / 60, "trained_parameters": session.trained_parameters,
        "parameters": session.parameters, "checkpoint": str(ended.checkpoint),
        "card": None if card is None else str(card), "last": ended.last,
        "evaluations": [json.loads(line) for line in _lines(session.folder / EVALUATIONS / "all.jsonl")],
    }  # fmt: skip
    if as_json:
        print(json.dumps(told, indent=2))
        return
    print(
        f"{session.folder}: {ended.reason} at step {told['step']} after {told['minutes']:.1f} minutes; "
        f"{told['trained_parameters']} of {told['parameters']} parameters were trained"
    )
    if ended.last:
        names = ("loss", "token_accuracy", "distance", "samples_per_s", "waiting_share")
        print_rows([{name: f"{ended.last[name]:.4g}" for name in names if name in ended.last}], as_json=False)
    if card is None:
        print("the same command continues")
    else:
        print(f"run it: vla-bench --policies-dir {session.folder} run --policy {session.goal.name} …")
