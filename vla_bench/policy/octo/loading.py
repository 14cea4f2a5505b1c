"""From a checkpoint folder and a card to parts that act."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from vla_bench.errors import ConventionError, DataError, MissingDataError, UnknownNameError
from vla_bench.policy import hub
from vla_bench.policy.asking import read_picture
from vla_bench.policy.cards import Card
from vla_bench.policy.graphs import Graphs
from vla_bench.policy.octo.checkpoint import Checkpoint, load_octo, picture_px, sizes_of
from vla_bench.policy.octo.config import OctoConfig, read_config
from vla_bench.policy.octo.conventions import Conventions
from vla_bench.policy.octo.frames import Frame
from vla_bench.policy.octo.instructions import Instructions
from vla_bench.policy.octo.model import Sizes
from vla_bench.policy.octo.parts import Parts, scalings
from vla_bench.policy.octo.passes import Passes
from vla_bench.policy.octo.scaling import read_statistics
from vla_bench.policy.octo.sequence import OBSERVATION, TASK
from vla_bench.policy.octo.settings import Discrete
from vla_bench.policy.octo.text import FILE as TOKENIZER_FILE
from vla_bench.policy.octo.text import TextTokenizer
from vla_bench.policy.precision import Precision
from vla_bench.policy.quantization.report import describe

ARM_STATE = 8
# Repositories of the tokenizers that `config.json` names without their owner.
TOKENIZERS = {name: f"google-t5/{name}" for name in ("t5-small", "t5-base", "t5-large")}


def load(
    card: Card, conventions: Conventions, checkpoint: Checkpoint, precision: Precision, device: torch.device
) -> Parts:
    """Load a checkpoint; what is small and can be wrong comes before the weights.

    Raises:
        ConventionError: Card and checkpoint contradict each other.
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
        MissingCapabilityError: The kind of model is not implemented, or the machine lacks something.
    """
    folder = checkpoint.folder
    config = read_config(folder)
    require_agreement(card, conventions, config, folder)
    window = conventions.window or config.window
    if window is None:
        raise MissingDataError(f"{folder}: neither config.json nor the option 'window' says the window")
    statistics = read_statistics(folder)
    scaling, state = scalings(statistics, conventions)
    if scaling.size > config.head.action_dim:
        raise DataError(
            statistics.source, f"actions have {scaling.size} numbers, the model's {config.head.action_dim}"
        )
    if state is not None and state.size != ARM_STATE:
        raise DataError(
            statistics.source, f"proprio has {state.size} numbers, the state of one arm {ARM_STATE}"
        )
    stored = checkpoint.tensors(config)
    sizes = sizes_of(stored, config, folder)
    for name in config.numbers if conventions.state else ():
        if sizes.tokens[OBSERVATION + name] != ARM_STATE:
            found = sizes.tokens[OBSERVATION + name]
            raise ConventionError(f"{folder}: {name!r} has {found} numbers, the state of one arm {ARM_STATE}")
    frames = {
        name: Frame(view, conventions.mirrored, picture_px(config, sizes, name, folder))
        for name, view in conventions.cameras.items()
    }
    goals = {
        name: frames[name].prepared(read_picture(card.source.parent / file), f"goal {file}")
        for name, file in conventions.goal.items()
    }
    tokenize = None
    if sizes.text is not None:
        tokenize = TextTokenizer(
            tokenizer_folder(conventions, config, folder), _text_length(sizes), sizes.text.vocabulary
        )
    model, head = load_octo(config, stored, folder, precision, device)
    report = describe({"": model, "head": head}, precision, device)
    settings = {**report.settings, "head": "float32", **checkpoint.says}
    graphs = Graphs(device) if conventions.passes == "recorded" else None
    return Parts(
        conventions=conventions, window=window, model=model, head=head,
        passes=Passes(model, head, graphs), frames=frames, statistics=statistics, scaling=scaling,
        state_scaling=state, goals=goals, report=replace(report, settings=settings),
        instructions=None if tokenize is None else Instructions(model, tokenize),
    )  # fmt: skip


def _text_length(sizes: Sizes) -> int:
    return next(count for name, count in sizes.tokens.items() if name.startswith(TASK))


def require_agreement(card: Card, conventions: Conventions, config: OctoConfig, folder: Path) -> None:
    """Compare a card with the checkpoint's `config.json`.

    Raises:
        ConventionError: They contradict each other; both sides are named.
        UnknownNameError: The card names a camera that the model does not have.
    """
    for name in (*conventions.cameras, *conventions.goal):
        if name not in config.cameras:
            raise UnknownNameError(
                "camera", name, config.cameras, where=f"{card.source}: of the model in {folder}"
            )
    for name in conventions.goal:
        if name not in conventions.cameras or not config.cameras[name].task_stack_keys:
            raise ConventionError(
                f"{card.source}: a goal for {name!r}, of which the model takes no goal picture"
            )
    head, said = config.head, f"{card.source}: "
    if card.chunk_predicted != head.action_horizon:
        raise ConventionError(
            f"{said}chunk_predicted is {card.chunk_predicted}, "
            f"the head in {folder} gives {head.action_horizon}"
        )
    if (conventions.window or 1) > config.horizon:
        raise ConventionError(
            f"{said}window is {conventions.window}, "
            f"the model in {folder} has positions for {config.horizon} steps"
        )
    if conventions.state and not config.numbers:
        raise ConventionError(f"{said}state is an input, but the model in {folder} takes no numbers")
    if conventions.task != "goal" and not config.languages:
        raise ConventionError(f"{said}task is {conventions.task!r}, but the model in {folder} takes no text")
    if conventions.choice == "most_likely" and not isinstance(head, Discrete):
        raise ConventionError(f"{said}choice = 'most_likely' is for bins, which the head in {folder} has not")


def tokenizer_folder(conventions: Conventions, config: OctoConfig, folder: Path) -> Path:
    """Return the folder with T5's tokenizer: the one that is named, the checkpoint's, or what was fetched.

    Raises:
        MissingDataError: It is nowhere; says how to get it.
    """
    if conventions.tokenizer is not None:
        return hub.named_folder(conventions.tokenizer, files=(TOKENIZER_FILE,))
    if (folder / TOKENIZER_FILE).is_file():
        return folder
    names = {language.encoder for language in config.languages.values()}
    return hub.fetched_folder(TOKENIZERS[names.pop()], files=(TOKENIZER_FILE,))
