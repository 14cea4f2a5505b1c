"""`plan` and `run`: from a study to its records."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench.cli.shared import AsJson, Axes, Suites, Tasks, app, print_rows, words
from vla_bench.errors import VlaBenchError

if TYPE_CHECKING:
    from vla_bench.run.executors import Executor, Means
    from vla_bench.run.executors.undecided import Undecided
    from vla_bench.run.study import Study

OutputDir = Annotated[
    Path | None, typer.Option("--out", help="Results folder; default results/<study>-<hash>.")
]
StudyName = Annotated[
    str | None, typer.Argument(help="A study's name or TOML file; without one, the flags are the study.")
]
Policies = Annotated[list[str] | None, typer.Option("--policy", help="Policies, comma-separated.")]
Precisions = Annotated[list[str] | None, typer.Option("--precision", help="Precisions, comma-separated.")]
Pacings = Annotated[list[str] | None, typer.Option("--pacing", help="Pacings, comma-separated.")]
Latencies = Annotated[list[str] | None, typer.Option("--latency", help="Latency sources, comma-separated.")]
Vary = Annotated[
    list[str] | None, typer.Option("--vary", help="Variations, comma-separated: 'visual.*@0,2,4'.")
]
Uncertified = Annotated[
    bool, typer.Option("--uncertified", help="Also run variations without a certificate of feasibility.")
]
Episodes = Annotated[int | None, typer.Option("--episodes", help="Episodes of each task.")]
FirstEpisode = Annotated[int | None, typer.Option("--first-episode", help="Index of the first episode.")]
Resample = Annotated[
    bool, typer.Option("--resample", help="Draw episodes beyond a suite's stored initial states from seeds.")
]
BudgetText = Annotated[str | None, typer.Option("--budget", help="steps:N, time:S, or both joined by +.")]
VideoChoice = Annotated[
    str | None, typer.Option("--video", help="none, failures, all, or the first N of an arm.")
]
RecordChoice = Annotated[
    str | None, typer.Option("--record", help="Steps and films as LeRobot data sets; choices as --video.")
]
ExecutorName = Annotated[str | None, typer.Option("--executor", help="serial, process, ray or slurm.")]
Batch = Annotated[int, typer.Option(min=1, help="Most requests that a policy answers together.")]
Exact = Annotated[
    bool, typer.Option("--exact", help="Answer requests one by one: equal bit for bit with any workers.")
]
RayAddress = Annotated[
    str | None, typer.Option("--address", help="Ray's cluster; default one of its own here.")
]
SlurmOptions = Annotated[
    list[str] | None, typer.Option("--slurm", help="Of the jobs: slurm_partition=gpu,timeout_min=600.")
]
Patience = Annotated[
    float, typer.Option(min=1, help="Seconds without progress after which an episode's process is ended.")
]
LoadPatience = Annotated[
    float, typer.Option(min=1, max=1_000_000, help="Seconds that policies may take to be loaded.")
]
Workers = Annotated[
    str, typer.Option("--workers", help="Simulators side by side, or auto: as many as are worth while here.")
]
BatchWait = Annotated[
    float, typer.Option(min=0, help="Seconds that a request waits for others, to be answered with them.")
]

Quiet = Annotated[bool, typer.Option("--quiet", help="Print what went wrong, and the last line.")]
Plain = Annotated[
    bool, typer.Option("--plain", help="Lines for a log, as where standard error is no terminal.")
]
Track = Annotated[
    list[str] | None, typer.Option("--track", help="Also tell trackers: wandb, trackio, mlflow.")
]
# Exit statuses of a run: 0 all is well, 2 refused (see cli.main), and these.
SOME_ERRORS, STOPPED = 3, 130


@app.command()
def plan(
    study: StudyName = None, suite: Suites = None, task: Tasks = None, task_axis: Axes = None,
    policy: Policies = None, precision: Precisions = None, pacing: Pacings = None,
    latency: Latencies = None, vary: Vary = None, uncertified: Uncertified = False, episodes: Episodes = None,
    first_episode: FirstEpisode = None, resample: Resample = False, budget: BudgetText = None,
    video: VideoChoice = None, record: RecordChoice = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Print what a run would do, without running it."""
    from vla_bench.run import power
    from vla_bench.run.plan import make_plan

    made = make_plan(_study(locals()))
    if as_json:
        print(json.dumps({**made.to_json(), "power": power.to_json(made)}, indent=2))
        return
    print(f"Study {made.study.folder_name}: {len(made.items)} episodes to run")
    print_rows(made.summary(), as_json=False)
    _print_left_out(made.study)
    if any(row["variation"] != "none" for row in made.variations()):
        print_rows(made.variations(), as_json=False)
        for reason in dict.fromkeys(f"left out of {o.task_id}: {o.reason}" for o in made.omitted):
            print(reason)
    power.show(made, lambda rows: print_rows(rows, as_json=False))


@app.command()
def run(
    study: StudyName = None, suite: Suites = None, task: Tasks = None, task_axis: Axes = None,
    policy: Policies = None, precision: Precisions = None, pacing: Pacings = None,
    latency: Latencies = None, vary: Vary = None, uncertified: Uncertified = False, episodes: Episodes = None,
    first_episode: FirstEpisode = None, resample: Resample = False, budget: BudgetText = None,
    video: VideoChoice = None, record: RecordChoice = None, out: OutputDir = None,
    executor: ExecutorName = None, workers: Workers = "1", batch: Batch = 8, exact: Exact = False,
    batch_wait: BatchWait = 0.01,
    patience: Patience = 600.0, load_patience: LoadPatience = 3600.0,
    address: RayAddress = None, slurm: SlurmOptions = None,
    quiet: Quiet = False, plain: Plain = False, track: Track = None,
) -> None:  # fmt: skip
    """Run a study, or continue it; the same command again runs what is missing.

    Ends with status 0 if all is well, 2 if it is refused, 3 if episodes ended in errors (the same command
    runs them again), 130 if it was stopped by Ctrl-C (the same command continues).
    """
    from vla_bench.run.display import run_with_progress
    from vla_bench.run.executors import Means
    from vla_bench.run.plan import make_plan
    from vla_bench.run.trackers import make_tracker

    made = make_plan(_study(locals()))
    means = Means(
        1, 1 if exact else batch, patience, address, _slurm_options(slurm), batch_wait, load_patience
    )
    if not quiet:
        _print_left_out(made.study)
    folder = out or Path("results") / made.study.folder_name
    view = "quiet" if quiet else "plain" if plain else None
    trackers = [make_tracker(name) for name in words(track)]
    ended = run_with_progress(
        made, folder, sys.argv, _executor(executor, workers, means), view=view, trackers=trackers
    )
    if ended.finished:
        from vla_bench.run.records import compact

        compact(folder)
    if not quiet:
        print(f"vla-bench report {folder}")
    if not ended.finished:
        raise typer.Exit(STOPPED)
    if ended.errors:
        raise typer.Exit(SOME_ERRORS)


def _executor(name: str | None, workers: str, means: Means) -> Executor | Undecided:
    """What `--executor` and `--workers` say."""
    from vla_bench.run.executors import make_executor
    from vla_bench.run.executors.undecided import Undecided

    if workers == "auto":
        if name not in (None, "process"):
            raise VlaBenchError(f"--workers auto measures this machine, not those of --executor {name}")
        return Undecided(means)
    if not workers.isdecimal() or int(workers) < 1:
        raise VlaBenchError(f"--workers {workers}: expected a number from 1, or auto")
    return make_executor(name, replace(means, workers=int(workers)))


def _print_left_out(study: Study) -> None:
    """Say which pairs of policy and precision are not run because a card does not list them."""
    for policy, precision in dict.fromkeys((arm.policy, arm.precision) for arm in study.left_out):
        print(f"left out: {policy} at {precision}: its card does not list it")


def _study(flags: dict[str, Any]) -> Study:
    """The study that a command's flags and its argument describe."""
    from vla_bench.run.study import load_study

    lists = {
        "suites": "suite", "tasks": "task", "task_axis": "task_axis",
        "policies": "policy", "precisions": "precision", "pacings": "pacing", "latencies": "latency",
    }  # fmt: skip
    changes: dict[str, Any] = {key: words(flags[flag]) or None for key, flag in lists.items()}
    if flags["vary"]:
        from vla_bench.axes.variation import split_list

        changes["variations"] = [part for text in flags["vary"] for part in split_list(text) or [""]]
    if flags["uncertified"]:
        changes["uncertified"] = "run"
    if flags["resample"]:
        changes["resample"] = True
    changes["episodes"], changes["first_episode"] = flags["episodes"], flags["first_episode"]
    if flags["budget"] is not None:
        changes["budget"] = _budget(flags["budget"])
    outputs = {name: flags[name] for name in ("video", "record") if flags.get(name) is not None}
    if outputs:
        changes["outputs"] = {name: int(text) if text.isdigit() else text for name, text in outputs.items()}
    return load_study(flags["study"], **changes)


def _slurm_options(texts: list[str] | None) -> dict[str, str | int]:
    """`key=value` pairs for submitit; whole numbers are numbers."""
    options: dict[str, str | int] = {}
    for word in words(texts):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise VlaBenchError(f"--slurm {word}: expected key=value, for example timeout_min=600")
        options[key] = int(value) if value.isdecimal() else value
    return options


def _budget(text: str) -> dict[str, float]:
    names = {"steps": ("steps", int), "time": ("time_s", float)}
    table: dict[str, float] = {}
    for part in text.split("+"):
        kind, _, value = part.partition(":")
        try:
            key, number = names.pop(kind)  # each once
            table[key] = number(value)
        except (KeyError, ValueError) as error:
            raise VlaBenchError(f"--budget {text}: expected steps:N, time:S, or both joined by +") from error
    return table
