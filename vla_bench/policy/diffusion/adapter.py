"""Diffusion Policy as a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla_bench import seeding
from vla_bench.errors import ConventionError, DataError, MissingDataError
from vla_bench.policy import hub
from vla_bench.policy.base import Explanation, PolicySpec
from vla_bench.policy.cards import Card
from vla_bench.policy.devices import pick_device
from vla_bench.policy.diffusion import profiling
from vla_bench.policy.diffusion.checkpoint import Trained
from vla_bench.policy.diffusion.conventions import Conventions, agreed, read_conventions, to_commands
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.language import DistilBert
from vla_bench.policy.diffusion.lerobot import read_lerobot
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.native import read_native
from vla_bench.policy.diffusion.official import read_official
from vla_bench.policy.diffusion.parts import History, Parts
from vla_bench.policy.diffusion.passes import Passes
from vla_bench.policy.diffusion.random_weights import made_up, with_drawn_weights
from vla_bench.policy.diffusion.schedule import Schedule
from vla_bench.policy.graphs import Graphs
from vla_bench.policy.precision import backend
from vla_bench.policy.profile import Profile
from vla_bench.policy.quantization.loading import load, quantise
from vla_bench.policy.quantization.report import describe
from vla_bench.policy.stopwatch import Stopwatch
from vla_bench.types import ActionChunk

READERS: Mapping[str, Callable[[Path], Trained]] = {
    "official": read_official, "lerobot": read_lerobot, "vla_bench": read_native,
}  # fmt: skip
_UNITS = {
    "delta_pose": "those of the controller: 1 is 0.05 m or 0.5 rad",
    "absolute_rot6d": "m, two rows of a rotation matrix",
}


class DiffusionPolicy:
    """Acts from the last observations; the noise follows from the episode's seed and the time.

    So an answer depends on nothing but the episode, and one network serves many episodes at once.

    Args:
        parts: The loaded checkpoint.
    """

    def __init__(self, parts: Parts) -> None:
        conventions, design = parts.conventions, parts.design
        self.parts, self.precision_report = parts, parts.precision_report
        self.spec = PolicySpec(
            cameras=tuple(conventions.cameras[each.key] for each in design.cameras),
            image_px=design.cameras[0].size if design.cameras else (256, 256),
            proprio=tuple(dict.fromkeys(name for names in parts.names.values() for name in names)),
            history=design.history,
            history_stride_s=1 / conventions.control_hz,
            action_size=7 * design.action_size // conventions.action_form.size,
            action_convention=conventions.action_form.convention,
            chunk_length=design.ahead,
            control_hz=conventions.control_hz,
        )
        self.reset("", 0)

    def reset(self, instruction: str, seed: int) -> None:
        """Begin the episode that `seed` belongs to; the instruction comes with every observation."""
        self._seed = seed

    def act(self, observations: History) -> ActionChunk:
        """Return the actions from the newest observation on."""
        return self.explain(observations).chunk

    def act_seeded(self, batch: Sequence[History], seeds: Sequence[int]) -> list[ActionChunk]:
        """Return one chunk for each history; the timings are those of the whole batch."""
        return [told.chunk for told in self._answer(batch, seeds)]

    def explain(self, observations: History) -> Explanation:
        """Act, and tell the actions before they became commands."""
        return self._answer([observations], [self._seed])[0]

    def profile(self) -> Profile:
        """Return what a call has to compute, and on CUDA the same policy without recorded passes."""
        parts, plain = self.parts, None
        if parts.passes.graphs is not None and parts.net.device.type == "cuda":
            passes = Passes(parts.net, parts.passes.schedule, None)
            plain = DiffusionPolicy(replace(parts, passes=passes))
        return profiling.describe(parts, plain)

    @torch.inference_mode()
    def _answer(self, batch: Sequence[History], seeds: Sequence[int]) -> list[Explanation]:
        parts, watch = self.parts, Stopwatch(self.parts.net.device)
        observations = parts.prepared(batch)
        noise = self._noise(batch, seeds)
        texts = [history[-1].instruction for history in batch]
        watch.mark("preprocess")
        condition = parts.condition(observations, texts)
        watch.mark("inference.vision")
        predicted = parts.passes.denoise(condition, noise)[:, parts.design.history - 1 :]
        watch.mark("inference.denoise")
        physical = parts.scalings["action"].unnormalise(predicted).double().cpu().numpy()
        normalised = predicted.double().cpu().numpy()
        commands = [to_commands(actions, parts.conventions) for actions in physical]
        watch.mark("postprocess")
        units = _UNITS[parts.conventions.actions]
        return [
            Explanation(ActionChunk(each, watch.timings_ms), None, normalised[i], physical[i], units)
            for i, each in enumerate(commands)
        ]

    def _noise(self, batch: Sequence[History], seeds: Sequence[int]) -> Tensor:
        """(draws, B, horizon, A)."""
        design = self.parts.design
        shape = (self.parts.passes.schedule.draws, design.horizon, design.action_size)
        drawn = [
            seeding.generator("policy", "diffusion", seed, history[-1].time_ns).standard_normal(
                shape, np.float32
            )
            for history, seed in zip(batch, seeds, strict=True)
        ]
        return torch.from_numpy(np.stack(drawn, axis=1)).to(self.parts.net.device)


def build(card: Card, precision: str) -> DiffusionPolicy:
    """Build the policy of a card.

    Raises:
        ConventionError: The card contradicts itself or the checkpoint.
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
        MissingCapabilityError: The kind of policy is not implemented, or this machine lacks something.
    """
    conventions, numbers = read_conventions(card), backend(precision)
    device = pick_device(conventions.device)
    numbers.require(device)
    trained = read(card, conventions, device)
    design = agreed(card, conventions, trained)
    encode = _text_encoder(card, conventions, design)
    net = DiffusionNet.on_meta(design)
    load(net, trained.weights, numbers, device=device, source=trained.source, skip=net.not_quantised)
    modules = {"": net, **({} if encode is None else {"text_encoder": encode})}
    if encode is not None:
        quantise(encode.to(numbers.dtype), numbers, device=device)
    report = describe(modules, numbers, device)
    if conventions.weights == "random":
        report = replace(report, settings={**report.settings, "weights": "random"})
    graphs = Graphs(device) if conventions.passes == "recorded" else None
    passes = Passes(net, Schedule(design.diffusion), graphs)
    return DiffusionPolicy(Parts(conventions, design, net, passes, trained.scalings, encode, report))


def read(card: Card, conventions: Conventions, device: torch.device) -> Trained:
    """Read the checkpoint that the user or the card names, or make one up.

    Raises:
        MissingDataError: It is not on this machine.
        DataError, MissingCapabilityError, ConventionError: It cannot be used.
    """
    reader = READERS[conventions.format]
    if conventions.weights == "checkpoint":
        return reader(find(card, conventions))
    try:
        path = find(card, conventions)
    except MissingDataError as error:
        if conventions.checkpoint is not None:
            raise
        if conventions.design is None:
            raise MissingDataError(
                f"{card.source}: random weights need a checkpoint that says what it is made of, or the "
                f"option 'design': {error}"
            ) from error
        return made_up(conventions.design, card.source, device)
    return with_drawn_weights(reader(path), device)


def _text_encoder(card: Card, conventions: Conventions, design: Design) -> DistilBert | None:
    needed = design.language is not None and design.language.encoder == "distilbert"
    if needed != (conventions.text_encoder is not None):
        takes = "takes its instruction from DistilBERT" if needed else "has no use for a text encoder"
        raise ConventionError(
            f"{card.source}: the checkpoint {takes}, text_encoder is {conventions.text_encoder!r}"
        )
    if design.language is None or conventions.text_encoder is None:
        return None
    encode = DistilBert(hub.named_folder(conventions.text_encoder))
    encode.require(design.language.size)
    return encode


def find(card: Card, conventions: Conventions) -> Path:
    """Return the file or folder of the checkpoint that the user or the card names.

    Raises:
        MissingDataError: It is not on this machine; says how to get it.
        DataError: A folder of official checkpoints has none, or several; or it is a file and must not be.
    """
    named = conventions.checkpoint
    if named is not None and Path(named).expanduser().is_file():
        if conventions.format != "official":
            raise DataError(named, f"is a file; checkpoints of format {conventions.format!r} are folders")
        file = Path(named).expanduser()
        return hub.take(file.parent, (file.name,)) / file.name
    if named is None and card.checkpoint.url is not None:
        raise MissingDataError(
            f"{card.source}: its checkpoint is published at {card.checkpoint.url}; fetch it and name the "
            f"file: {card.name}:FILE"
        )
    folder = hub.card_folder(card) if named is None else hub.named_folder(named)
    if conventions.format != "official":
        return folder
    files = sorted(folder.glob("*.ckpt"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(folder, f"expected one .ckpt file, found {found}; name one: {card.name}:FILE")
    return hub.take(folder, (files[0].name,)) / files[0].name
