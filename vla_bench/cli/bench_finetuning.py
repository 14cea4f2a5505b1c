"""`bench finetuning`: what ways of training a policy further reach and cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_bench.cli.bench import bench_app
from vla_bench.cli.shared import AsJson, Suites, Tasks, words
from vla_bench.cli.training import (
    Accumulate,
    Batch,
    Config,
    Data,
    Device,
    HeldOutChanged,
    Precision,
    Rate,
    Seed,
    finetuning,
)
from vla_bench.cli.training_run import know_cards_in
from vla_bench.errors import VlaBenchError

if TYPE_CHECKING:
    from vla_bench.account.finetuning import Measured
    from vla_bench.learn.training.costs import Turn, Way
    from vla_bench.run.records import Record


@bench_app.command("finetuning")
def bench_finetuning(
    policy: Annotated[str, typer.Option(help="A policy, as NAME or NAME:FOLDER, or a trained one's folder.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder; an existing one is continued.")],
    strategy: Annotated[
        list[str] | None, typer.Option(help="Comma-separated; all by default. Times are ratios to the first.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of LoRA's adapters: 32 or 64.")] = 32,
    max_steps: Annotated[int, typer.Option(min=1, help="Of each way.")] = 200,
    turns: Annotated[int, typer.Option(min=1, help="How often each way has its turn.")] = 4,
    config: Config = None,
    batch: Batch = None,
    accumulate: Accumulate = None,
    learning_rate: Rate = None,
    precision: Precision = None,
    seed: Seed = None,
    suite: Suites = None,
    task: Tasks = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task, for each way.")] = 10,
    device: Device = "auto",
    held_out_changed: HeldOutChanged = False,
    as_json: AsJson = False,
) -> None:
    """Train a policy further in several ways, and print what each reached and cost, beside the paper's.

    Each turn is a process of its own, so that memory is that of one way. --suite and --task are played with
    the seeds of reported numbers; without them nothing is. Tables: OUT/finetuning.md and OUT/finetuning.csv.
    """
    from vla_bench.account import formats
    from vla_bench.account.finetuning import finetuning_table
    from vla_bench.learn import held_out
    from vla_bench.learn.training.costs import Way, take_turns
    from vla_bench.learn.training.openvla.strategies import STRATEGIES

    folders = tuple(map(Path, words(data)))
    if not held_out_changed:
        held_out.require_unchanged(folders)
    flags = {
        "rank": rank, "batch": batch, "accumulate": accumulate, "learning_rate": learning_rate,
        "precision": precision, "seed": seed,
    }  # fmt: skip
    ways = {
        name: Way(*finetuning(policy, name, None, config, flags), out / name)
        for name in words(strategy) or STRATEGIES
    }
    done = take_turns(ways, folders, device, steps=max_steps, turns=turns, on_turn=_say)
    trained = {name: ways[name].goal.name for name, known in done.items() if not known[-1].refused}
    records: Sequence[Record] = ()
    if words(suite) or words(task):
        records = _played(trained, ways, out, words(suite), words(task), episodes)
    rows = _rows(ways, done, trained, records)
    table = finetuning_table(
        rows,
        of=f"{policy} on {', '.join(words(data))}, {max_steps} steps",
        played=", ".join([*words(suite), *words(task)]) if records else "",
        device=next((turn.device for known in done.values() for turn in known if turn.device), device),
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("md", formats.to_markdown(table)), ("csv", formats.to_csv(table))):
        (out / f"finetuning.{name}").write_text(text, encoding="utf-8")
    if as_json:
        print(
            json.dumps([dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers], indent=2)
        )
    else:
        print(formats.to_markdown(table))


def _say(name: str, turn: Turn) -> None:
    typer.echo(f"{name}: {turn.refused or f'step {turn.until}'}", err=True)


def _played(
    trained: Mapping[str, str],
    ways: Mapping[str, Way],
    out: Path,
    suites: Sequence[str],
    tasks: Sequence[str],
    episodes: int,
) -> Sequence[Record]:
    """Records of an ordinary run of all policies that were trained.

    Raises:
        VlaBenchError: There are none.
    """
    from vla_bench.run.plan import make_plan
    from vla_bench.run.provenance import header_of
    from vla_bench.run.records import read_run
    from vla_bench.run.runner import run_plan
    from vla_bench.run.session import begin_session
    from vla_bench.run.study import load_study

    if not trained:
        raise VlaBenchError("none of the ways could be trained; see above")
    with ExitStack() as known:
        for name in trained:
            known.enter_context(know_cards_in(ways[name].folder))
        study = load_study(
            suites=tuple(suites), tasks=tuple(tasks), episodes=episodes, policies=tuple(trained.values())
        )
        plan = make_plan(study)
        run_plan(plan, out / "run", header_of(plan, begin_session(plan, sys.argv)))
    return read_run(out / "run").records


def _rows(
    ways: Mapping[str, Way],
    done: Mapping[str, Sequence[Turn]],
    trained: Mapping[str, str],
    records: Sequence[Record],
) -> list[Measured]:
    import numpy as np

    from vla_bench.account.finetuning import Measured
    from vla_bench.learn.training.openvla.strategies import STRATEGIES

    paces = {name: [float(np.median(t.step_s)) for t in known if t.step_s] for name, known in done.items()}
    first, rows = paces[next(iter(ways))], []
    for name, known in done.items():
        config = ways[name].config
        rank = config.rank if STRATEGIES[config.strategy].adapts else None
        if name not in trained:
            rows.append(Measured(name, rank, refused=known[-1].refused))
            continue
        mine = [record.status for record in records if record.policy == trained[name]]
        rows.append(
            Measured(
                strategy=name,
                rank=rank,
                trained=known[-1].trained,
                parameters=known[-1].parameters,
                peak_bytes=max(turn.peak_bytes for turn in known),
                idle_bytes=max(turn.idle_bytes for turn in known),
                ratios=[pace / other for pace, other in zip(paces[name], first, strict=False)],
                successes=mine.count("success"),
                n=len(mine) - mine.count("error"),
                errors=mine.count("error"),
            )
        )
    return rows
