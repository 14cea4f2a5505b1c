"""The command line: `vla-bench list | plan | run | report | gallery | bench | assets | doctor`.

Commands parse flags, call one function and print; heavy packages are imported when they are used.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench import __version__, catalog
from vla_bench.errors import UnknownNameError, VlaBenchError
from vla_bench.sim.opengl import asked_backend

if TYPE_CHECKING:
    from vla_bench.run.study import Study

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run a robot policy, at a numeric precision, under a timing regime, on tasks grouped by what they "
    "generalise over, and account for what happened.",
)
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")
assets_app = typer.Typer(
    no_args_is_help=True, help="Fetch and check the data of suites that need a download."
)
app.add_typer(bench_app, name="bench")
app.add_typer(assets_app, name="assets")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
OutputDir = Annotated[
    Path | None, typer.Option("--out", help="Results folder; default results/<study>-<hash>.")
]

StudyName = Annotated[
    str | None, typer.Argument(help="A study's name or TOML file; without one, the flags are the study.")
]
Suites = Annotated[list[str] | None, typer.Option("--suite", help="Suites, comma-separated.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Tasks, suite/stem or suite/index.")]
Axes = Annotated[list[str] | None, typer.Option("--task-axis", help="Keep tasks that test these axes.")]
Policies = Annotated[list[str] | None, typer.Option("--policy", help="Policies, comma-separated.")]
Precisions = Annotated[list[str] | None, typer.Option("--precision", help="Precisions, comma-separated.")]
Pacings = Annotated[list[str] | None, typer.Option("--pacing", help="Pacings, comma-separated.")]
Latencies = Annotated[list[str] | None, typer.Option("--latency", help="Latency sources, comma-separated.")]
Vary = Annotated[
    list[str] | None, typer.Option("--vary", help="Variations, comma-separated: 'visual.*@0,2,4'.")
]
Episodes = Annotated[int | None, typer.Option("--episodes", help="Episodes of each task.")]
FirstEpisode = Annotated[int | None, typer.Option("--first-episode", help="Index of the first episode.")]
BudgetText = Annotated[str | None, typer.Option("--budget", help="steps:N, time:S, or both joined by +.")]
VideoChoice = Annotated[
    str | None, typer.Option("--video", help="none, failures, all, or the first N of an arm.")
]
DataDirs = Annotated[list[Path] | None, typer.Option(help="Further folders with data of this kind.")]


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    tasks_dir: DataDirs = None,
    policies_dir: DataDirs = None,
) -> None:
    """Options of all commands."""
    for variable, folders in (
        (catalog.TASKS_DIR_VARIABLE, tasks_dir),
        (catalog.POLICIES_DIR_VARIABLE, policies_dir),
    ):
        if folders:
            # an environment variable, because worker processes must find the same folders
            os.environ[variable] = os.pathsep.join(str(folder.resolve()) for folder in folders)
    if version:
        print(__version__)
        raise typer.Exit
    asked_backend()  # MuJoCo reads MUJOCO_GL on import and words a mistake in it badly


@app.command("list")
def list_things(
    kind: Annotated[str, typer.Argument(help="suites, tasks, factors, policies or studies.")] = "suites",
    suite: Suites = None,
    task_axis: Axes = None,
    as_json: AsJson = False,
) -> None:
    """List what exists: suites, tasks, factors, policies, studies."""
    from vla_bench import listing

    kinds = {
        "suites": listing.suites,
        "tasks": lambda: listing.tasks(_words(suite), _words(task_axis)),
        "factors": lambda: listing.factors(_words(task_axis), wide=as_json),
        "policies": listing.policies,
        "studies": listing.studies,
    }
    if kind not in kinds:
        raise UnknownNameError("kind of thing", kind, kinds)
    _print_rows(kinds[kind](), as_json)


@app.command()
def plan(
    study: StudyName = None, suite: Suites = None, task: Tasks = None, task_axis: Axes = None,
    policy: Policies = None, precision: Precisions = None, pacing: Pacings = None,
    latency: Latencies = None, vary: Vary = None, episodes: Episodes = None,
    first_episode: FirstEpisode = None, budget: BudgetText = None, video: VideoChoice = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Print what a run would do, without running it."""
    from vla_bench.run.plan import make_plan

    made = make_plan(_study(locals()))
    if as_json:
        print(json.dumps(made.to_json(), indent=2))
        return
    print(f"Study {made.study.folder_name}: {len(made.items)} episodes to run")
    _print_rows(made.summary(), as_json=False)
    if any(row["variation"] != "none" for row in made.variations()):
        _print_rows(made.variations(), as_json=False)
        for reason in dict.fromkeys(f"left out of {o.task_id}: {o.reason}" for o in made.omitted):
            print(reason)


@app.command()
def run(
    study: StudyName = None, suite: Suites = None, task: Tasks = None, task_axis: Axes = None,
    policy: Policies = None, precision: Precisions = None, pacing: Pacings = None,
    latency: Latencies = None, vary: Vary = None, episodes: Episodes = None,
    first_episode: FirstEpisode = None, budget: BudgetText = None, video: VideoChoice = None,
    out: OutputDir = None,
) -> None:  # fmt: skip
    """Run a study, or continue it; the same command again runs what is missing."""
    from vla_bench.run.display import run_with_progress
    from vla_bench.run.plan import make_plan

    made = make_plan(_study(locals()))
    folder = out or Path("results") / made.study.folder_name
    finished = run_with_progress(made, folder, sys.argv)
    print(f"vla-bench report {folder}")
    if not finished:
        raise typer.Exit(130)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    as_json: AsJson = False,
) -> None:
    """Print the comparison tables of a results folder and write them as Markdown, CSV and LaTeX."""
    from vla_bench.account.report import write_report

    made = write_report(folder)
    if as_json:
        tables = {
            table.name: [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]
            for table in made.tables
        }
        print(json.dumps({"header": made.header, "tables": tables}, indent=2))
        return
    print(made.text())
    for file in made.files:
        print(f"written: {file}")


@app.command()
def gallery(
    suite: Annotated[str, typer.Option(help="The suite.")],
    task: Annotated[
        str | None, typer.Option(help="Task that factors are shown on; default the first.")
    ] = None,
    factors: Annotated[list[str] | None, typer.Option(help="Factors, comma-separated: 'visual.*'.")] = None,
    levels: Annotated[str, typer.Option(help="Levels, comma-separated.")] = "0,1,3,5",
    out: Annotated[Path, typer.Option(help="Pictures go to <out>/<suite>.")] = Path("results/gallery"),
) -> None:
    """Write a still of every task, and a sheet of what each factor does to the picture, level by level."""
    from vla_bench.axes.gallery import write_factors, write_stills

    tasks = [catalog.task(f"{suite}/{stem}") for stem in catalog.suite(suite).stems()]
    shown = tasks[0] if task is None else catalog.task(task if "/" in task else f"{suite}/{task}")
    patterns = _words(factors) or ["visual.*", "motion.*", "physical.*"]
    sheet, left_out = write_factors(shown, patterns, levels, out / shown.suite)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"written: {sheet}")
    for file in write_stills(tasks, out / suite):
        print(f"written: {file}", flush=True)


@bench_app.command("sim")
def bench_sim(
    task: Annotated[str, typer.Option("--task", help="Task, suite/stem or suite/index.")],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 5,
    pictures: Annotated[bool, typer.Option(help="Measure rendering too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Control steps per second, resets, memory, and the ratios to bare MuJoCo and to LIBERO's original."""
    import dataclasses

    from vla_bench.sim.bench import bench_simulation, describe

    result = bench_simulation(catalog.task(task), rounds=rounds, pictures=pictures)
    print(json.dumps(dataclasses.asdict(result), indent=2) if as_json else describe(result))


@assets_app.command("libero")
def assets_libero(
    source: Annotated[
        Path | None, typer.Option("--from", help="Take the data from a folder instead of the network.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the data that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch LIBERO's data, or take it from a folder, and say what is missing or a stand-in."""
    from vla_bench.sim.assets import libero_status
    from vla_bench.sim.assets_fetch import fetch_libero

    status = libero_status(catalog.libero_root()) if check else fetch_libero(source or "hub")
    if as_json:
        fields = {name: getattr(status, name) for name in ("missing", "standins", "altered", "digest")}
        print(json.dumps({"root": str(status.root), **fields}, indent=2))
    else:
        print(status)


@app.command()
def doctor(
    write: Annotated[Path | None, typer.Option(help="Store this machine's fingerprint in a file.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Compare with a stored fingerprint.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check graphics, versions, assets and the fingerprint; exit 1 if one is broken."""
    from vla_bench.doctor import examine

    checks = examine(write=write, compare=compare)
    if as_json:
        print(json.dumps([check.to_json() for check in checks], indent=2))
    else:
        for check in checks:
            print(check)
    if any(check.verdict == "broken" for check in checks):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; errors made on purpose are printed as one sentence."""
    try:
        app()
    except VlaBenchError as error:
        print(f"vla-bench: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # the reader went away (`| head`); nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _study(flags: dict[str, Any]) -> Study:
    """The study that a command's flags and its argument describe."""
    from vla_bench.run.study import load_study

    lists = {
        "suites": "suite", "tasks": "task", "task_axis": "task_axis",
        "policies": "policy", "precisions": "precision", "pacings": "pacing", "latencies": "latency",
    }  # fmt: skip
    changes: dict[str, Any] = {key: _words(flags[flag]) or None for key, flag in lists.items()}
    if flags["vary"]:
        from vla_bench.axes.variation import split_list

        changes["variations"] = [part for text in flags["vary"] for part in split_list(text) or [""]]
    changes["episodes"], changes["first_episode"] = flags["episodes"], flags["first_episode"]
    if flags["budget"] is not None:
        changes["budget"] = _budget(flags["budget"])
    if flags["video"] is not None:
        changes["outputs"] = {"video": int(flags["video"]) if flags["video"].isdigit() else flags["video"]}
    return load_study(flags["study"], **changes)


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


def _words(values: list[str] | None) -> list[str]:
    """Options that may be repeated and hold commas."""
    return [word.strip() for value in values or () for word in value.split(",") if word.strip()]


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print("nothing")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int) else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


if __name__ == "__main__":
    main()
