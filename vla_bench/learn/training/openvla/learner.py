"""What is trained: a checkpoint as the policy loads it, with the statistics of the data it learns from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vla_bench.errors import MissingCapabilityError
from vla_bench.learn.action_statistics import write_statistics
from vla_bench.learn.training import foresight
from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.kind import Excerpt, Origin, Outcome, Reach
from vla_bench.learn.training.openvla import objective, strategies
from vla_bench.learn.training.openvla.batch import Batch, Collation
from vla_bench.learn.training.openvla.new_parts import initialised
from vla_bench.learn.training.openvla.sight import OpenVlaSight
from vla_bench.policy.openvla.actions import ActionTokens, Statistics
from vla_bench.policy.openvla.checkpoint import Source, config_of, load_model, load_part
from vla_bench.policy.openvla.config import OVERRIDES
from vla_bench.policy.openvla.conventions import Conventions
from vla_bench.policy.openvla.engine import Plain
from vla_bench.policy.openvla.frames import Frames
from vla_bench.policy.openvla.heads import L1Head, ScalarProjector
from vla_bench.policy.openvla.lora import with_adapter
from vla_bench.policy.openvla.parts import Parts, scalings
from vla_bench.policy.openvla.processor import FILE as PROCESSOR_FILE
from vla_bench.policy.openvla.processor import read_processor
from vla_bench.policy.openvla.prompts import FILE as TOKENIZER_FILE
from vla_bench.policy.openvla.prompts import PromptTokenizer
from vla_bench.policy.precision import Precision, backend
from vla_bench.policy.statistics import FILE as STATISTICS_FILE
from vla_bench.policy.tensors import SINGLE, weights_of

ADAPTER_FOLDER, FORESIGHT = "lora_adapter", "foresight"


# options of a card that say where weights are, not how they see and act
PLACES = frozenset({"checkpoint", "base", "device", "decode", "weights", "architecture"})


class OpenVlaLearner:
    """The model and its parts, with those weights that are trained; see `kind.Learner`.

    Args:
        origin: Where it starts from.
        config: How it is trained.
        weights: Folder with weights to continue from, one that `write` has written; None is the origin's.
        device: Where it is trained.

    Attributes:
        modules: The model, and OFT's parts by the names of their files.

    Raises:
        MissingCapabilityError: This kind of policy is not trained here, or the machine lacks something.
        MissingDataError, DataError: A checkpoint cannot be read, or is that of another strategy.
    """

    def __init__(
        self,
        origin: Origin[Conventions],
        config: TrainingConfig,
        device: torch.device,
        weights: Path | None = None,
    ) -> None:
        conventions = origin.conventions
        if conventions.film or conventions.head == "diffusion":
            raise MissingCapabilityError(
                f"head = {conventions.head!r}, film = {conventions.film}: FiLM and the diffusion head are "
                "not trained here; heads that are: tokens, discrete, l1"
            )
        self.origin, self.config = origin, config
        strategy = strategies.STRATEGIES[config.strategy]
        source = Source(origin.base if weights is None or strategy.adapts else weights)
        sizes, start = config_of(source), Source(origin.base)
        statistics = Statistics(origin.statistics, origin.base / STATISTICS_FILE)
        scaling, state = scalings(statistics, conventions)
        model = load_model(source, _base_precision(config), device)
        strategies.prepare(model, config)
        self.modules: dict[str, nn.Module] = {"": model}
        if conventions.head == "l1":
            self._add("action_head", L1Head(sizes.hidden, scaling.size), weights or start.folder, device)
        projector = None
        if state is not None:
            projector = ScalarProjector(state.size, sizes.hidden)
            self._add("proprio_projector", projector, weights or start.folder, device)
        if config.foresight:
            self._add(FORESIGHT, nn.Linear(sizes.hidden, foresight.SIZE), weights or start.folder, device)
        if strategy.adapts and weights is not None:
            self._continue_adapters(model, weights)
        self.parts = Parts(
            conventions, model, Plain(model), Frames(conventions, read_processor(source.folder)), statistics,
            scaling, ActionTokens(sizes.bins, sizes.vocabulary), origin.chunk, state, projector,
        )  # fmt: skip
        self.sight = OpenVlaSight(self.parts.frames)
        self.reach, self.executed = Reach(1, origin.chunk), origin.chunk
        self._collate = Collation(self.parts, PromptTokenizer(source.folder))
        if config.checkpointing:
            _compute_again(model)

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained, on top of weights that stay."""
        return strategies.STRATEGIES[self.config.strategy].adapts

    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        return {
            f"{part}.{name}".removeprefix("."): value
            for part, module in self.modules.items()
            for name, value in strategies.trained(module)
        }

    def batch(self, excerpts: Sequence[Excerpt], draws: np.random.Generator) -> Batch:
        """Samples as tensors; nothing is drawn."""
        return self._collate(excerpts)

    def measure(self, batch: Batch) -> Outcome:
        """Compute the loss of a batch, in the precision of the training."""
        return objective.measure(self.parts, self.modules, self.config, batch)

    def judge(self, batch: Batch) -> Outcome:
        """The same: what is said costs nothing more."""
        return self.measure(batch)

    def stepped(self, step: int) -> None:
        """Nothing follows the optimiser."""

    def lighter(self) -> list[str]:
        """Flags with which it would take less memory."""
        ways = [] if self.config.checkpointing else ["--checkpointing"]
        return [*ways, "--strategy qlora" if self.adapts else "--strategy lora"]

    def card_options(self, checkpoint: Path) -> dict[str, Any]:
        """The options of a card for the checkpoint in a folder; an adapter needs its base."""
        options = self.origin.conventions.model_dump(mode="json", exclude_none=True, exclude=set(PLACES))
        if self.adapts and not (checkpoint / SINGLE).is_file():
            options["base"] = str(self.origin.base.resolve())
        return options

    def write(self, folder: Path, step: int, dtype: torch.dtype = torch.float32) -> None:
        """Write what the policy's loader reads: the official layout, or an adapter and what it needs beside.

        Args:
            folder: Is made.
            step: Goes into the names of OFT's parts.
            dtype: Of the weights; adapters and OFT's parts stay in float32.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", OVERRIDES, PROCESSOR_FILE, TOKENIZER_FILE):
            if (self.origin.base / name).is_file():
                shutil.copyfile(self.origin.base / name, folder / name)
        write_statistics(folder, self.origin.statistics)
        model = self.parts.model
        if self.adapts:
            strategies.write_adapter(model, self.config, self.origin.base, folder / ADAPTER_FOLDER)
        else:
            _save({name: value.to(dtype) for name, value in model.state_dict().items()}, folder)
        for name, module in self.modules.items():
            if name:
                torch.save(module.state_dict(), folder / f"{name}--{step}_checkpoint.pt")

    def write_policy(self, folder: Path, step: int, dtype: torch.dtype) -> None:
        """Write the whole model; adapters are merged into the base's weights and stay beside it."""
        self.write(folder, step, dtype)
        for path in Source(folder).parts(FORESIGHT):  # of training alone
            path.unlink()
        if self.adapts:
            merged = with_adapter(weights_of(self.origin.base), folder / ADAPTER_FOLDER)
            _save({name: tensor.read().to(dtype) for name, tensor in merged.items()}, folder)

    def _add(self, name: str, part: nn.Module, folder: Path, device: torch.device) -> None:
        """One of OFT's parts: that of a folder, or a new one; always trained."""
        source = Source(folder)
        if source.parts(name):
            load_part(part, source, name, backend("fp32"), device)
        else:
            initialised(part, name, self.config.seed)
        self.modules[name] = part.to(device).requires_grad_()

    def _continue_adapters(self, model: nn.Module, weights: Path) -> None:
        from vla_bench.policy.openvla.lora import WEIGHTS
        from vla_bench.policy.tensors import check, safetensors_of

        path = weights / ADAPTER_FOLDER / WEIGHTS
        stored = {
            name.removeprefix("base_model.model."): tensor for name, tensor in safetensors_of(path).items()
        }
        adapters = {
            name.replace(".default.", "."): value
            for name, value in model.named_parameters()
            if strategies.ADAPTER in name
        }
        check({name: tuple(value.shape) for name, value in adapters.items()}, stored, path)
        for name, value in adapters.items():
            value.data.copy_(stored[name].read())


def _base_precision(config: TrainingConfig) -> Precision:
    """Weights that are trained are float32; those that stay are as narrow as the passes compute."""
    strategy = strategies.STRATEGIES[config.strategy]
    return backend(strategy.base or (config.precision if strategy.adapts else "fp32"))


def _compute_again(model: nn.Module) -> None:
    """Let the blocks of the towers and of Llama keep nothing but their inputs for the way back."""
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    for name, module in model.named_modules():
        if name.rpartition(".")[0].endswith(("blocks", "model.layers")):
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)


def _save(state: Mapping[str, Tensor], folder: Path) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, folder / SINGLE)
