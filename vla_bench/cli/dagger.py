"""`demos dagger`: what the scripted expert would do where a policy leads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_bench.cli.demos import Lossless, Workers, demos_app, named_tasks, watch_recording
from vla_bench.cli.shared import AsJson, Axes, Suites, Tasks, words
from vla_bench.types import Arm

if TYPE_CHECKING:
    from vla_bench.cli.demos import Tell


@demos_app.command()
def dagger(
    policy: Annotated[str, typer.Option(help="Who acts, as NAME or NAME:FOLDER.")],
    data: Annotated[Path, typer.Option("--data", help="Demonstrations that it was trained on.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set of this round.")],
    precision: Annotated[str | None, typer.Option(help="Of the policy; by default its card's first.")] = None,
    number: Annotated[int, typer.Option("--round", min=1, help="Its seeds differ from other rounds'.")] = 1,
    expert_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Chance that a second is acted by the expert.")
    ] = 0.5,
    suite: Suites = None,
    task: Tasks = None,
    task_axis: Axes = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task that are tried.")] = 10,
    first_episode: Annotated[int, typer.Option(min=0, help="Index of the first episode.")] = 0,
    workers: Workers = 1,
    lossless: Lossless = False,
    as_json: AsJson = False,
) -> None:
    """Record what the expert would do where a policy leads; the same command again continues.

    Tasks and pictures are those of --data. The expert finishes what the policy did not; only what it could
    finish is kept. Train on both: --data EXISTING,OUT.
    """
    from vla_bench.learn.dagger import Round, record_round, tasks_of
    from vla_bench.learn.demonstrations import open_demonstrations
    from vla_bench.policy.cards import read_card
    from vla_bench.run.executors import Means
    from vla_bench.run.hosting import LOOPBACK, Hosting
    from vla_bench.run.weights import file_digests

    named = words(suite) or words(task)
    chosen = (
        named_tasks(words(suite), words(task), words(task_axis))
        if named
        else tasks_of(open_demonstrations(data))
    )
    wanted = range(first_episode, first_episode + episodes)
    precision = precision or read_card(policy).precisions[0]
    # answered one by one: what a policy says must not depend on how many workers ask
    with Hosting([Arm(policy, precision)], Means(workers, max_batch=1), LOOPBACK) as hosting:
        weights = file_digests(taken for found in hosting.taken.values() for taken in found)
        how = Round(policy, precision, number, expert_rate, hosting.here, weights)

        def play(on_attempt: Tell) -> None:
            record_round(
                how, data, out, tasks=chosen, episodes=wanted,
                encoding="lossless" if lossless else "film", workers=workers, on_attempt=on_attempt,
            )  # fmt: skip

        watch_recording(play, [each.id for each in chosen], len(wanted), out, as_json=as_json)
