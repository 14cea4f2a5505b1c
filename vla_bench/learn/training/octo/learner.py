"""An Octo that is trained: transformer and diffusion head, and its text encoder where that is its own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.kind import Excerpt, Origin, Outcome, Reach
from vla_bench.learn.training.octo.objective import Batch, answer, distance, noise_loss, outcome, windows
from vla_bench.learn.training.octo.sight import OctoSight
from vla_bench.learn.training.octo.stems import baked, standardise
from vla_bench.learn.training.octo.tables import octo_tables, write_tables
from vla_bench.learn.training.passes import computing
from vla_bench.learn.training.state import OWN, portable
from vla_bench.learn.training.unsupported import require_plain
from vla_bench.policy.arm import robot_state
from vla_bench.policy.octo.checkpoint import HEAD, load_octo, picture_px, sizes_of, tensors_of
from vla_bench.policy.octo.config import FILE as CONFIG_FILE
from vla_bench.policy.octo.config import OctoConfig, read_config
from vla_bench.policy.octo.conventions import Conventions, from_commands
from vla_bench.policy.octo.frames import Frame
from vla_bench.policy.octo.heads import DiffusionHead
from vla_bench.policy.octo.loading import tokenizer_folder
from vla_bench.policy.octo.model import Inputs, Sizes
from vla_bench.policy.octo.parts import scalings
from vla_bench.policy.octo.scaling import Statistics
from vla_bench.policy.octo.sequence import TASK
from vla_bench.policy.octo.text import FILE as TOKENIZER_FILE
from vla_bench.policy.octo.text import TextTokenizer
from vla_bench.policy.precision import backend
from vla_bench.policy.tensors import SINGLE, safetensors_of

# options of a card that say where weights are and how they are computed
PLACES = frozenset({"checkpoint", "tokenizer", "device", "passes", "weights", "architecture"})


class OctoLearner:
    """Model and head with those weights that are trained; see `kind.Learner`.

    Args:
        origin: Where it starts from.
        config: How it is trained.
        device: Where.
        weights: Folder with weights to continue from, one that `write` has written; None is the origin's.

    Raises:
        MissingCapabilityError: This kind of policy is not trained here.
        MissingDataError, DataError: A checkpoint cannot be read.
        ConventionError: Conventions and checkpoint contradict each other.
    """

    def __init__(
        self,
        origin: Origin[Conventions],
        config: TrainingConfig,
        device: torch.device,
        weights: Path | None = None,
    ) -> None:
        conventions, folder = origin.conventions, weights or origin.base
        self.origin, self.config, self._device = origin, config, device
        described = read_config(folder)
        _require_trainable(config, conventions, described)
        stored = tensors_of(folder, described)
        sizes = sizes_of(stored, described, folder)
        # not that of the weights: this checkpoint goes when newer ones have come
        self._tokenizer_folder = tokenizer_folder(conventions, described, origin.base)
        self._tokenize = _tokenizer(self._tokenizer_folder, sizes)
        statistics = Statistics(octo_tables(origin.statistics), folder)
        self._scaling, self._state = scalings(statistics, conventions)
        self.model, head = load_octo(described, stored, folder, backend("fp32"), device)
        assert isinstance(head, DiffusionHead)
        self.head = head
        standardise(self.model.stems)
        for name, value in [*self.model.named_parameters(), *head.named_parameters()]:
            value.requires_grad_(not name.startswith("text.") or _learns_text(described))
        self.modules: dict[str, nn.Module] = {"": self.model, HEAD.removesuffix("."): head}
        if weights is not None:
            own = safetensors_of(weights / OWN)
            for name, value in self.trained().items():
                value.data.copy_(own[name].read())
        window = conventions.window or described.window or 1
        self.reach, self.executed = Reach(window, window + head.horizon - 1), head.horizon
        if head.horizon != origin.chunk:
            raise ConventionError(f"{folder}: gives {head.horizon} actions at once, asked for {origin.chunk}")
        frames = {
            name: Frame(view, conventions.mirrored, picture_px(described, sizes, name, folder))
            for name, view in conventions.cameras.items()
        }
        self._cameras, self.sight = tuple(frames), OctoSight(frames)

    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        return {
            f"{part}.{name}".removeprefix("."): value
            for part, module in self.modules.items()
            for name, value in module.named_parameters()
            if value.requires_grad
        }

    def batch(self, excerpts: Sequence[Excerpt], draws: np.random.Generator) -> Batch:
        """Samples as tensors, with noise for each."""
        window, conventions = self.reach.frames, self.origin.conventions
        physical = np.stack([from_commands(each.actions, conventions) for each in excerpts])
        actions = windows(torch.from_numpy(self._scaling.normalise(physical)).float(), window)
        real = torch.from_numpy(np.stack([each.real for each in excerpts]))
        mask = windows(torch.from_numpy(np.stack([each.mask for each in excerpts])), window)
        shape = (self.config.noises, *actions.shape[:2])
        noise = draws.standard_normal((*shape, actions[0, 0].numel()), dtype=np.float32)
        steps = draws.integers(len(self.head.schedule.betas), size=shape)
        drawn = np.stack([self.head.draw(draws) for _ in excerpts])
        pictures = {
            name: torch.from_numpy(np.stack([[seen[i] for seen in each.pictures] for each in excerpts]))
            for i, name in enumerate(self._cameras)
        }
        return Batch(
            pictures, self._numbers(excerpts), real, [each.instruction for each in excerpts], actions,
            mask & real[..., None], torch.from_numpy(noise), torch.from_numpy(steps), torch.from_numpy(drawn),
        )  # fmt: skip

    def measure(self, batch: Batch) -> Outcome:
        """The loss of a batch."""
        batch = self._here(batch)
        return outcome(noise_loss(self.head, self.embedding(batch), batch), batch, float("nan"))

    def judge(self, batch: Batch) -> Outcome:
        """The loss, and how far its actions are from those wanted."""
        batch = self._here(batch)
        embedding = self.embedding(batch)
        loss = noise_loss(self.head, embedding, batch)
        return outcome(loss, batch, distance(answer(self.head, embedding, batch), batch))

    def stepped(self, step: int) -> None:
        """Nothing follows the optimiser."""

    def write(self, folder: Path, step: int) -> None:
        """Write what the policy's loader reads, and beside it the weights as they are trained."""
        self.write_policy(folder, step, torch.float32)
        save_file(portable(self.trained(), torch.float32), folder / OWN)

    def write_policy(self, folder: Path, step: int, dtype: torch.dtype) -> None:
        """Write what the policy's loader reads; the head stays in float32."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.origin.base / CONFIG_FILE, folder / CONFIG_FILE)
        shutil.copyfile(self._tokenizer_folder / TOKENIZER_FILE, folder / TOKENIZER_FILE)
        write_tables(folder, self.origin.statistics)
        head = {HEAD + name: value for name, value in self.head.state_dict().items()}
        save_file({**portable(baked(self.model), dtype), **portable(head, torch.float32)}, folder / SINGLE)

    def card_options(self, checkpoint: Path) -> dict[str, Any]:
        """The options of a card."""
        return self.origin.conventions.model_dump(mode="json", exclude_none=True, exclude=set(PLACES))

    def lighter(self) -> list[str]:
        """There are no further ways."""
        return []

    def embedding(self, batch: Batch) -> Tensor:
        """(B, W, width) what the head reads, in float32."""
        once = list(dict.fromkeys(batch.texts))
        with computing(self._device, self.config.precision):
            ids, mask = (torch.cat(each) for each in zip(*map(self._tokenize, once), strict=True))
            encoded = self.model.encode(ids.to(self._device), mask.to(self._device))
            text = encoded[[once.index(text) for text in batch.texts]]
            numbers = {} if batch.numbers is None else dict.fromkeys(self.model.config.numbers, batch.numbers)
            has_text = batch.real.new_ones(len(batch.texts))
            seen = self.model(Inputs(batch.real, batch.pictures, text, has_text, numbers))[self.head.reads]
        return self.head.pooled(seen.tokens.float(), seen.mask)

    def _numbers(self, excerpts: Sequence[Excerpt]) -> Tensor | None:
        """(B, W, size) normalised state of the robot, where it is an input."""
        if self._state is None:
            return None
        raw = np.stack([[robot_state(e.robot(i)) for i in range(len(e.real))] for e in excerpts])
        return torch.from_numpy(self._state.normalise(raw)).float()

    def _here(self, batch: Batch) -> Batch:
        at = self._device
        return Batch(
            {name: value.to(at) for name, value in batch.pictures.items()},
            None if batch.numbers is None else batch.numbers.to(at), batch.real.to(at), batch.texts,
            batch.actions.to(at), batch.mask.to(at), batch.noise.to(at), batch.steps.to(at),
            batch.drawn.to(at),
        )  # fmt: skip


def _tokenizer(folder: Path, sizes: Sizes) -> TextTokenizer:
    assert sizes.text is not None
    length = next(count for name, count in sizes.tokens.items() if name.startswith(TASK))
    return TextTokenizer(folder, length, sizes.text.vocabulary)


def _learns_text(config: OctoConfig) -> bool:
    return any(language.finetune_encoder for language in config.languages.values())


def _require_trainable(config: TrainingConfig, conventions: Conventions, described: OctoConfig) -> None:
    require_plain(config, "Octo")
    head = type(described.head).__name__
    if head != "Diffusion" or conventions.task != "language" or not described.languages:
        raise MissingCapabilityError(
            f"head {head}, task = {conventions.task!r}: models with a diffusion head that are told an "
            "instruction are trained here"
        )
