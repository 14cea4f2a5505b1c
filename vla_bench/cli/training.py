"""`train` and `finetune`: policies from demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench.cli.shared import AsJson, Suites, Tasks, app, words
from vla_bench.cli.training_run import Ends, Place, Selection, know_cards_in, run_training
from vla_bench.config import parse, read_toml
from vla_bench.errors import DataError, suggest

if TYPE_CHECKING:
    from vla_bench.learn.training.config import TrainingConfig
    from vla_bench.learn.training.session import Goal
    from vla_bench.policy.cards import Card

Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        help="Demonstrations: a LeRobot folder, or LIBERO's HDF5; several, comma-separated, are learned from "
        "together, with the statistics of the first.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the training; an existing one is continued.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML with tables training and options (those of the card); flags win."),
]
Batch = Annotated[int | None, typer.Option(min=1, help="Samples in one pass.")]
Accumulate = Annotated[int | None, typer.Option(min=1, help="Passes to one step.")]
Rate = Annotated[float | None, typer.Option("--learning-rate", help="After the warm-up.")]
Precision = Annotated[str | None, typer.Option(help="bf16 or fp32.")]
Checkpointing = Annotated[
    bool | None,
    typer.Option("--checkpointing", help="Compute again instead of keeping: less memory, slower."),
]
Holdout = Annotated[int | None, typer.Option(help="Measure on every so many-th episode, never train on it.")]
Seed = Annotated[int | None, typer.Option(help="Of order, augmentation and new weights.")]
MaxSteps = Annotated[int | None, typer.Option(help="End after so many steps in all.")]
MaxMinutes = Annotated[float | None, typer.Option(help="End after so many minutes of training in all.")]
UntilAccuracy = Annotated[
    float | None, typer.Option(help="End when so many action tokens are right (the paper: 0.95).")
]
SaveEvery = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
Keep = Annotated[int, typer.Option(min=1, help="How many checkpoints stay, the newest.")]
HeldOutChanged = Annotated[
    bool,
    typer.Option(
        "--held-out-changed",
        help="Train although out-of-distribution files have changed since the data were recorded.",
    ),
]
EvaluateEvery = Annotated[int, typer.Option(min=0, help="Steps between evaluations; 0 is never.")]
Episodes = Annotated[int, typer.Option(min=1, help="Episodes of each task in an evaluation.")]
Device = Annotated[str, typer.Option(help="auto takes a GPU where there is one.")]


@app.command()
def train(
    data: Data,
    out: Out,
    architecture: Annotated[str, typer.Option(help="A name, or a TOML file.")] = "nano-openvla",
    config: Config = None,
    batch: Batch = None,
    accumulate: Accumulate = None,
    learning_rate: Rate = None,
    precision: Precision = None,
    checkpointing: Checkpointing = None,
    holdout: Holdout = None,
    seed: Seed = None,
    max_steps: MaxSteps = None,
    max_minutes: MaxMinutes = None,
    until_accuracy: UntilAccuracy = None,
    save_every: SaveEvery = 500,
    keep: Keep = 2,
    evaluate_every: EvaluateEvery = 0,
    suite: Suites = None,
    task: Tasks = None,
    episodes: Episodes = 10,
    device: Device = "auto",
    held_out_changed: HeldOutChanged = False,
    as_json: AsJson = False,
) -> None:
    """Train a policy from nothing; the same command again continues.

    Evaluations play --suite and --task on seeds of the namespace `select`, which no reported number uses.
    """
    from vla_bench.learn.architecture import read_architecture
    from vla_bench.learn.training.config import TrainingConfig
    from vla_bench.learn.training.kind import kind_of
    from vla_bench.learn.training.session import Goal

    described = read_architecture(architecture)
    kind = kind_of(described.family)
    tables = _tables(config)
    flags = {
        "batch": batch, "accumulate": accumulate, "learning_rate": learning_rate, "precision": precision,
        "checkpointing": checkpointing, "holdout": holdout, "seed": seed,
    }  # fmt: skip
    merged = {**described.training, **tables["training"], **_given(flags)}
    source = config or f"architecture {described.name}"
    goal = Goal(
        described.name,
        kind,
        parse(kind.conventions, {**described.options, **tables["options"]}, source, at="options"),
        kind.chunk(described),
        architecture=described,
    )
    ends = Ends(max_steps, max_minutes, until_accuracy, save_every, evaluate_every, keep)
    selection = Selection(tuple(words(suite)), tuple(words(task)), episodes)
    made = parse(TrainingConfig, merged, source, at="training")
    place = Place(tuple(map(Path, words(data))), out, device, held_out_changed)
    run_training(goal, made, place, ends, selection, as_json=as_json)


@app.command()
def finetune(
    policy: Annotated[str, typer.Option(help="A policy, as NAME or NAME:FOLDER, or a trained one's folder.")],
    data: Data,
    out: Out,
    strategy: Annotated[
        str, typer.Option(help="full, last_layer, frozen_vision, sandwich, lora or qlora.")
    ] = "lora",
    rank: Annotated[int | None, typer.Option(min=1, help="Of LoRA's adapters: 32 or 64.")] = None,
    chunk: Annotated[int | None, typer.Option(min=1, help="Actions at once; OFT's is 8.")] = None,
    config: Config = None,
    batch: Batch = None,
    accumulate: Accumulate = None,
    learning_rate: Rate = None,
    precision: Precision = None,
    checkpointing: Checkpointing = None,
    holdout: Holdout = None,
    seed: Seed = None,
    max_steps: MaxSteps = None,
    max_minutes: MaxMinutes = None,
    until_accuracy: UntilAccuracy = None,
    save_every: SaveEvery = 500,
    keep: Keep = 2,
    evaluate_every: EvaluateEvery = 0,
    suite: Suites = None,
    task: Tasks = None,
    episodes: Episodes = 10,
    device: Device = "auto",
    held_out_changed: HeldOutChanged = False,
    as_json: AsJson = False,
) -> None:
    """Train a policy further on other data; the same command again continues.

    OFT's recipe is a --config with head = "l1" (and state, cameras) in its table [options], and --chunk 8.
    """
    flags = {
        "rank": rank, "batch": batch, "accumulate": accumulate, "learning_rate": learning_rate,
        "precision": precision, "checkpointing": checkpointing, "holdout": holdout, "seed": seed,
    }  # fmt: skip
    goal, made = finetuning(policy, strategy, chunk, config, flags)
    ends = Ends(max_steps, max_minutes, until_accuracy, save_every, evaluate_every, keep)
    selection = Selection(tuple(words(suite)), tuple(words(task)), episodes)
    place = Place(tuple(map(Path, words(data))), out, device, held_out_changed)
    run_training(goal, made, place, ends, selection, as_json=as_json)


def finetuning(
    policy: str, strategy: str, chunk: int | None, config: Path | None, flags: dict[str, Any]
) -> tuple[Goal, TrainingConfig]:
    """What training a policy further is.

    Args:
        policy: As `finetune` takes it.
        strategy: Which weights are trained.
        chunk: Actions at once; None leaves it as it is.
        config: See `finetune`.
        flags: Keys of [training] that win over the file; None is a flag that was not used.

    Raises:
        UnknownNameError, DataError, ConventionError: Something is unknown or does not go together.
        MissingDataError: The checkpoint is not here.
    """
    from vla_bench.learn.training.config import TrainingConfig
    from vla_bench.learn.training.kind import kind_of
    from vla_bench.learn.training.session import Goal, changed_card

    tables, card = _tables(config), _card(policy)
    kind, length = kind_of(card.family), chunk or card.chunk_predicted
    card = changed_card(card, length, tables["options"])
    conventions = kind.read(card)
    base = kind.folder(card, conventions)
    merged = {"learning_rate": kind.learning_rate(strategy), **tables["training"], **_given(flags)}
    made = parse(TrainingConfig, {**merged, "strategy": strategy}, config or "command line", at="training")
    return Goal(f"{card.name}-{strategy.replace('_', '-')}", kind, conventions, length, base), made


def _tables(path: Path | None) -> dict[str, dict[str, Any]]:
    """The tables [training] and [options] of a file.

    Raises:
        DataError: It has others.
    """
    table = {} if path is None else read_toml(path)
    for name in table:
        if name not in ("training", "options"):
            known = suggest(name, ("training", "options"))
            raise DataError(path or "", f"unknown table {name!r}{known}")
    return {"training": {}, "options": {}, **table}


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags that were used."""
    return {name: value for name, value in flags.items() if value is not None}


def _card(policy: str) -> Card:
    """The card of a policy, or the one that lies in a folder.

    Raises:
        DataError: The folder holds no card, or several.
    """
    from vla_bench.policy.cards import read_card

    folder = Path(policy)
    if not folder.is_dir():
        return read_card(policy)
    cards = sorted(folder.glob("*.toml"))
    if len(cards) != 1:
        found = ", ".join(card.name for card in cards) or "none"
        raise DataError(
            folder, f"should hold the card of one policy, found {found}; NAME:FOLDER takes a card by its name"
        )
    with know_cards_in(folder):
        return read_card(cards[0].stem)
