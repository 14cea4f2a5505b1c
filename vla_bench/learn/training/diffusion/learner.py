"""A Diffusion Policy that is trained, and the average of its weights that will act."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vla_bench.errors import MissingCapabilityError
from vla_bench.learn.training.config import TrainingConfig
from vla_bench.learn.training.diffusion.average import follow
from vla_bench.learn.training.diffusion.objective import Batch, answer, distance, drawn, loss_of, outcome
from vla_bench.learn.training.diffusion.scalings import scalings_of
from vla_bench.learn.training.diffusion.sight import DiffusionSight
from vla_bench.learn.training.kind import Excerpt, Origin, Outcome, Reach
from vla_bench.learn.training.passes import computing
from vla_bench.learn.training.state import OWN, portable
from vla_bench.learn.training.unsupported import require_plain
from vla_bench.policy.diffusion.conventions import Conventions, from_commands, vector
from vla_bench.policy.diffusion.design import CameraInput, NumbersInput
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.native import read_native, save
from vla_bench.policy.diffusion.schedule import Schedule
from vla_bench.policy.tensors import fill, safetensors_of

# options of a card that say where weights are and how they are computed
PLACES = frozenset({"checkpoint", "device", "passes", "weights", "design"})


class DiffusionLearner:
    """The network, and the moving average of its weights; see `kind.Learner`.

    Args:
        origin: Where it starts from.
        config: How it is trained.
        device: Where.
        weights: Folder with weights to continue from, one that `write` has written; None is the origin's.

    Raises:
        MissingCapabilityError: This kind of policy is not trained here.
        MissingDataError, DataError, ConventionError: A checkpoint cannot be read, or does not fit the data.
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
        _require_trainable(config, conventions)
        trained = read_native(folder)
        design = self.design = trained.design
        if design.vision.norm == "batch" or (design.language and design.language.encoder == "distilbert"):
            raise MissingCapabilityError(
                f"{folder}: batch normalisation and DistilBERT are not trained here; designs that are: "
                "vision.norm = 'group', language.encoder = 'words' or 'bytes'"
            )
        (table,) = origin.statistics.values()
        self.scalings = scalings_of(table, design, conventions)
        self.average = DiffusionNet.on_meta(design)
        fill(self.average, trained.weights, dtype=torch.float32, device=device, source=folder)
        self.average.requires_grad_(False)
        self.net = deepcopy(self.average).requires_grad_().train()
        if weights is not None:
            fill(self.net, safetensors_of(weights / OWN), dtype=torch.float32, device=device, source=weights)
            self.net.requires_grad_()
        self.modules: dict[str, nn.Module] = {"": self.net}
        self.sight = DiffusionSight(design, conventions)
        self.reach, self.executed = Reach(design.history, design.horizon), design.executed
        self._schedule = Schedule(design.diffusion)

    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        return dict(self.net.named_parameters())

    def batch(self, excerpts: Sequence[Excerpt], draws: np.random.Generator) -> Batch:
        """Samples as tensors, with noise for each."""
        conventions = self.origin.conventions
        observations = {
            each.key: self._pictures(excerpts, place) if isinstance(each, CameraInput) else
            self._numbers(excerpts, each)
            for place, each in self._placed()
        }  # fmt: skip
        physical = np.stack([from_commands(each.actions, conventions) for each in excerpts])
        actions = self.scalings["action"].normalise(torch.from_numpy(physical).float())
        mask = torch.from_numpy(np.stack([each.mask for each in excerpts]))
        rows = self.config.noises * len(actions)
        noise, steps = drawn((rows, *actions.shape[1:]), self.design.diffusion.trained, draws)
        return Batch(observations, [each.instruction for each in excerpts], actions, mask, noise, steps)

    def measure(self, batch: Batch) -> Outcome:
        """The loss of a batch."""
        batch = self._here(batch)
        return outcome(self._loss(self.net, batch), batch, float("nan"))

    def judge(self, batch: Batch) -> Outcome:
        """The loss of the average, and how far its actions are from those wanted."""
        batch = self._here(batch)
        apart = distance(answer(self.average, batch), self.design, batch)
        return outcome(self._loss(self.average, batch), batch, apart)

    def stepped(self, step: int) -> None:
        """The average follows."""
        follow(dict(self.average.named_parameters()), dict(self.net.named_parameters()), step)

    def write(self, folder: Path, step: int) -> None:
        """Write the average as the policy's loader reads it, and beside it the weights themselves."""
        self.write_policy(folder, step, torch.float32)
        save_file(portable(self.net.state_dict(), torch.float32), folder / OWN)

    def write_policy(self, folder: Path, step: int, dtype: torch.dtype) -> None:
        """Write the average as the policy's loader reads it."""
        save(folder, self.design, portable(self.average.state_dict(), dtype), self.scalings)

    def card_options(self, checkpoint: Path) -> dict[str, Any]:
        """The options of a card."""
        return self.origin.conventions.model_dump(mode="json", exclude_none=True, exclude=set(PLACES))

    def lighter(self) -> list[str]:
        """There are no further ways."""
        return []

    def _loss(self, net: DiffusionNet, batch: Batch) -> Tensor:
        with computing(self._device, self.config.precision):
            return loss_of(net, self._schedule, batch)

    def _placed(self) -> list[tuple[int, CameraInput | NumbersInput]]:
        """Every input, cameras with their number."""
        cameras = {each.key: place for place, each in enumerate(self.design.cameras)}
        return [(cameras.get(each.key, 0), each) for each in self.design.inputs]

    def _pictures(self, excerpts: Sequence[Excerpt], camera: int) -> Tensor:
        """(B × history, 3, H, W) of a camera, normalised."""
        stacked = np.stack([seen[camera] for each in excerpts for seen in each.pictures])
        levels = torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255
        return self.scalings[self.design.cameras[camera].key].normalise(levels)

    def _numbers(self, excerpts: Sequence[Excerpt], each: NumbersInput) -> Tensor:
        """(B × history, size), normalised."""
        conventions = self.origin.conventions
        names = conventions.proprio[each.key]
        rows = [
            vector(excerpt.robot(place), names, conventions.rotation_vectors)
            for excerpt in excerpts
            for place in range(len(excerpt.real))
        ]
        return self.scalings[each.key].normalise(torch.from_numpy(np.stack(rows)).float())

    def _here(self, batch: Batch) -> Batch:
        at = self._device
        return Batch(
            {key: value.to(at) for key, value in batch.observations.items()}, batch.texts,
            batch.actions.to(at), batch.mask.to(at), batch.noise.to(at), batch.steps.to(at),
        )  # fmt: skip


def _require_trainable(config: TrainingConfig, conventions: Conventions) -> None:
    require_plain(config, "Diffusion Policy")
    if conventions.format != "vla_bench" or conventions.actions != "delta_pose":
        raise MissingCapabilityError(
            f"format = {conventions.format!r}, actions = {conventions.actions!r}: policies that were begun "
            "here are trained (format = 'vla_bench'), and with actions = 'delta_pose'"
        )
