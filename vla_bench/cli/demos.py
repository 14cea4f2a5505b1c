"""`demos`: the scripted expert's demonstrations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench import catalog
from vla_bench.cli.shared import AsJson, Axes, Suites, Tasks, app, print_rows, words
from vla_bench.errors import UnknownNameError, VlaBenchError
from vla_bench.types import SPLITS, TASK_AXES, Task

if TYPE_CHECKING:
    from vla_bench.learn.recording import Attempt

    Tell = Callable[[Attempt], None]

demos_app = typer.Typer(help="Record, import and decode demonstrations.")
app.add_typer(demos_app, name="demos")

ImagePx = Annotated[
    int | None, typer.Option("--image-px", min=2, help="Height and width of the pictures (even).")
]
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="Keep tasks in (id) or out of (ood) distribution.")
]
Cameras = Annotated[list[str] | None, typer.Option("--camera", help="Keep these cameras, comma-separated.")]
Lossless = Annotated[
    bool, typer.Option("--lossless", help="Store pictures without loss: 2 to 5 times as large.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that work side by side.")]


@demos_app.callback(invoke_without_command=True)
def demos(
    context: typer.Context,
    suite: Suites = None,
    task: Tasks = None,
    task_axis: Axes = None,
    split: Splits = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task that are tried.")] = 10,
    first_episode: Annotated[int, typer.Option(min=0, help="Index of the first episode.")] = 0,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            help="Shares of the motion, comma-separated: the standard deviation of what is added to it when "
            "it is executed. Each episode draws one. The expert's own action is stored."
        ),
    ] = None,
    astray: Annotated[
        float,
        typer.Option(min=0, max=1, help="Chance that the arm is led astray before the expert is recorded."),
    ] = 0.0,
    kicks: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Chance that a step executes a random motion instead of the expert's."
        ),
    ] = 0.0,
    image_px: ImagePx = None,
    camera: Cameras = None,
    workers: Workers = 1,
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set.")] = Path("demos"),
    lossless: Lossless = False,
    as_json: AsJson = False,
) -> None:
    """Record what the scripted expert does, as a LeRobot data set; the same command again continues.

    Only successes are kept. The episodes are those of no evaluation. Without --lossless, films lose colour.
    """
    if context.invoked_subcommand is not None:
        return
    from vla_bench.learn.disturbance import Disturbances
    from vla_bench.learn.recording import record

    chosen = named_tasks(words(suite), words(task), words(task_axis), words(split))
    seen = [_seen_by(each, words(camera), image_px) for each in chosen]
    disturbances = Disturbances(_numbers(words(noise)) or (0.0,), astray, kicks)
    wanted = range(first_episode, first_episode + episodes)
    encoding = "lossless" if lossless else "film"

    def play(on_attempt: Tell) -> None:
        record(
            seen, out, episodes=wanted, encoding=encoding, disturbances=disturbances, workers=workers,
            on_attempt=on_attempt,
        )  # fmt: skip

    watch_recording(play, [each.id for each in seen], len(wanted), out, as_json=as_json)


@demos_app.command()
def cache(
    folder: Annotated[Path, typer.Argument(help="A data set of demonstrations.")],
    camera: Cameras = None,
    image_px: ImagePx = None,
) -> None:
    """Decode the pictures of a data set once, so that training reads random ones fast."""
    from vla_bench.learn.decoded import Decoded
    from vla_bench.learn.demonstrations import open_demonstrations

    data = open_demonstrations(folder)
    for name in words(camera) or list(data.conventions.cameras):
        with _bar(f"{name}: episodes", len(data)) as (bar, _):
            decoded = Decoded(data, lambda done, total: bar(done))
            pictures = decoded.pictures(name, None if image_px is None else (image_px, image_px))
        print(f"{decoded.folder}: {name} {pictures.shape}, {pictures.nbytes / 1e6:.1f} MB")


@demos_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A LeRobot folder (v3), or LIBERO's HDF5 files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set.")],
    drop_noops: Annotated[
        bool, typer.Option("--drop-noops", help="Leave out steps that neither move nor change the gripper.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Do each again in the simulator, and keep those that succeed.")
    ] = False,
    image_px: ImagePx = None,
    camera: Cameras = None,
    workers: Workers = 1,
    lossless: Lossless = False,
    as_json: AsJson = False,
) -> None:
    """Write demonstrations anew as a LeRobot data set; the same command again continues.

    With --drop-noops, --replay and --image-px 256 this is what OpenVLA did to LIBERO's demonstrations.
    """
    from vla_bench.learn.demonstrations import open_demonstrations
    from vla_bench.learn.importing import Import, import_demonstrations, layout_of

    data = open_demonstrations(source)
    encoding = "lossless" if lossless else "film"
    layout = layout_of(data, cameras=words(camera), image_px=image_px, encoding=encoding)
    with _bar("demonstrations", len(data)) as (bar, say):
        done: list[str] = []

        def show(key: str, outcome: str) -> None:
            done.append(key)
            bar(len(done))
            if outcome != "kept":
                say(f"{key}: {outcome}")

        job = Import(source, out, layout, drop_noops, replay)
        outcomes = import_demonstrations(job, workers=workers, on_outcome=show)
    kept = sum(outcome == "kept" for outcome in outcomes.values())
    if as_json:
        print(json.dumps({"folder": str(out), "kept": kept, "demonstrations": outcomes}, indent=2))
    else:
        print(f"{out}: kept {kept} of {len(outcomes)} demonstrations")


def watch_recording(
    play: Callable[[Tell], Any], task_ids: Sequence[str], episodes: int, out: Path, *, as_json: bool
) -> None:
    """Record with a progress bar, and print what became of the episodes of each task.

    Args:
        play: Records, and tells what it is given of each attempt.
        task_ids: What is played.
        episodes: Of each task.
        out: Folder of the data set.
        as_json: Print JSON.

    Raises:
        Exit: Somebody pressed Ctrl-C.
    """
    attempts, finished = _attempts(play, len(task_ids) * episodes)
    rows = [_row(name, attempts) for name in dict.fromkeys(task_ids)]
    if as_json:
        outcomes = {attempt.episode.key: attempt.outcome for attempt in attempts}
        print(json.dumps({"folder": str(out), "tasks": rows, "episodes": outcomes}, indent=2))
    else:
        print_rows(rows, as_json=False)
        kept, tried = (sum(row[name] for row in rows) for name in ("kept", "tried"))
        print(f"{out}: kept {kept} of {tried} tried")
    if not finished:
        raise typer.Exit(130)


def _attempts(play: Callable[[Tell], Any], total: int) -> tuple[list[Attempt], bool]:
    """Record with a progress bar; returns the attempts, and whether nobody pressed Ctrl-C."""
    attempts: list[Attempt] = []
    with _bar("episodes", total) as (bar, say):

        def show(attempt: Attempt) -> None:
            attempts.append(attempt)
            bar(len(attempts))
            if attempt.outcome.startswith("error"):
                say(f"{attempt.episode.key}: {attempt.outcome}")

        try:
            play(show)
        except KeyboardInterrupt:
            say("stopped; the same command continues")
            return attempts, False
    return attempts, True


@contextmanager
def _bar(title: str, total: int) -> Iterator[tuple[Any, Any]]:
    """A progress bar with an estimate on stderr: how to say how much is done, and how to say a sentence."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True, highlight=False)) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda done: progress.update(bar, completed=done), progress.console.print


def _seen_by(task: Task, cameras: list[str], image_px: int | None) -> Task:
    """A task whose pictures are those of some cameras at another size."""
    for name in cameras:
        if name not in task.cameras:
            raise UnknownNameError("camera", name, task.cameras, where=task.suite)
    if image_px is not None:
        if image_px % 2:
            raise VlaBenchError(f"films have an even height and width: {image_px - 1} or {image_px + 1}")
        task = replace(task, observation_height_px=image_px, observation_width_px=image_px)
    return replace(task, cameras=tuple(cameras) or task.cameras)


def _numbers(given: list[str]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in given)
    except ValueError as error:
        raise VlaBenchError(f"--noise takes numbers, for example 0,0.2,0.4; got {','.join(given)}") from error


def named_tasks(
    suites: list[str], names: list[str], axes: list[str], splits: Sequence[str] = ()
) -> list[Task]:
    """The tasks of suites, of these only those that test some axes, of some splits; and tasks by their names.

    Raises:
        UnknownNameError: There is no such axis, split, suite or task.
        VlaBenchError: Nothing is named.
    """
    for axis in axes:
        if axis not in TASK_AXES:
            raise UnknownNameError("task axis", axis, TASK_AXES)
    for split in splits:
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
    if not suites and not names:
        raise VlaBenchError("name what is to be recorded: --suite libero_object, or --task suite/stem")
    found = [catalog.task(name) for name in names]
    for name in suites:
        chosen = catalog.suite(name)
        found += [
            chosen.task(stem)
            for stem, part in chosen.divided().items()
            if (not axes or part.axis in axes) and (not splits or part.split in splits)
        ]
    return list({task.id: task for task in found}.values())


def _row(task_id: str, attempts: list[Attempt]) -> dict[str, Any]:
    mine = [attempt.outcome for attempt in attempts if attempt.episode.task_id == task_id]
    return {
        "task": task_id,
        "kept": mine.count("kept"),
        "tried": len(mine),
        "errors": sum(outcome.startswith("error") for outcome in mine),
    }
