"""A loaded checkpoint with what stands around it, from observations to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vla_bench.errors import ConventionError
from vla_bench.policy.diffusion.conventions import Conventions, vector
from vla_bench.policy.diffusion.design import CameraInput, Design, NumbersInput
from vla_bench.policy.diffusion.language import DistilBert
from vla_bench.policy.diffusion.model import DiffusionNet
from vla_bench.policy.diffusion.passes import Passes
from vla_bench.policy.diffusion.scaling import Scaling
from vla_bench.types import Observation, PrecisionReport

History = Sequence[Observation]


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded checkpoint, what stands around it, and its conventions.

    Attributes:
        conventions: Of the card.
        design: With the card's sampler.
        net: With weights.
        passes: How it is computed.
        scalings: By the keys of the inputs, and `action`.
        encode: Instructions → numbers, where that is not a part of the network.
        precision_report: What the precision came to.
    """

    conventions: Conventions
    design: Design
    net: DiffusionNet
    passes: Passes
    scalings: Mapping[str, Scaling]
    encode: DistilBert | None = None
    precision_report: PrecisionReport | None = None

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Key of an input of numbers → the parts of the proprioception that it consists of."""
        return {each.key: self.conventions.proprio[each.key] for each in self.design.numbers}

    def prepared(self, batch: Sequence[History]) -> dict[str, Tensor]:
        """B histories → key → (B × history, …), normalised, in float32.

        Raises:
            ConventionError: A history or a picture has another size than the policy asks for.
        """
        for history in batch:
            if len(history) != self.design.history:
                raise ConventionError(
                    f"the policy takes {self.design.history} observations at a time, found {len(history)}"
                )
        seen = [observation for history in batch for observation in history]
        return {
            each.key: self._pictures(seen, each)
            if isinstance(each, CameraInput)
            else self._numbers(seen, each)
            for each in self.design.inputs
        }

    def condition(self, observations: Mapping[str, Tensor], texts: Sequence[str]) -> Tensor:
        """What `prepared` gave, and B instructions → (B, condition)."""
        return self.net.told(self.passes.features(observations), texts, self.encode)

    def _pictures(self, seen: Sequence[Observation], each: CameraInput) -> Tensor:
        name = self.conventions.cameras[each.key]
        stacked = np.stack([_picture(observation, name, each.size) for observation in seen])
        stacked = stacked[:, :, ::-1] if self.conventions.mirrored else stacked
        pictures = torch.from_numpy(np.ascontiguousarray(stacked)).to(self.net.device).float() / 255
        return _scaled_channels(pictures.permute(0, 3, 1, 2), self.scalings[each.key])

    def _numbers(self, seen: Sequence[Observation], each: NumbersInput) -> Tensor:
        names, turned = self.names[each.key], self.conventions.rotation_vectors
        rows = np.stack([vector(observation, names, turned) for observation in seen])
        if rows.shape[1] != each.size:
            raise ConventionError(
                f"the checkpoint's {each.key!r} has {each.size} numbers, {' and '.join(names)} have "
                f"{rows.shape[1]}"
            )
        return self.scalings[each.key].normalise(torch.from_numpy(rows).float().to(self.net.device))


def _picture(observation: Observation, name: str, size: tuple[int, int]) -> np.ndarray:
    if name not in observation.images:
        found = ", ".join(observation.images) or "none"
        raise ConventionError(f"camera {name!r} is not in the observation; it has {found}")
    picture = np.asarray(observation.images[name])
    if picture.shape != (*size, 3) or picture.dtype != np.uint8:
        raise ConventionError(
            f"camera {name!r} has {picture.dtype} of shape {picture.shape}, the policy takes uint8 of shape "
            f"{(*size, 3)}"
        )
    return picture


def _scaled_channels(pictures: Tensor, scaling: Scaling) -> Tensor:
    """Scale (N, 3, H, W): the numbers of a scaling are one for all, one a channel, or stand for (3, 1, 1)."""
    if len(scaling.shape) == 1 and scaling.shape[0] == 3:
        return scaling.normalise(pictures.movedim(1, -1)).movedim(-1, 1)
    return scaling.normalise(pictures)
