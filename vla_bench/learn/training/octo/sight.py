"""What Octo sees in training: pictures resized once; crop and colours every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vla_bench.errors import MissingCapabilityError
from vla_bench.learn.training.augmentation import augmented
from vla_bench.policy import images
from vla_bench.policy.octo.frames import Frame
from vla_bench.types import Image


class OctoSight:
    """The policy's way of a picture; see `kind.Sight`.

    Args:
        frames: The model's camera → the policy's way.

    Raises:
        MissingCapabilityError: The model's cameras differ in size.
    """

    def __init__(self, frames: Mapping[str, Frame]) -> None:
        sides = {frame.size_px for frame in frames.values()}
        if len(sides) != 1:
            raise MissingCapabilityError(
                f"cameras of {sorted(sides)} px: those of one size are trained together; leave the others "
                "out of the options' cameras"
            )
        self._frames = list(frames.values())
        self.cameras = tuple(frame.view.camera for frame in self._frames)
        self.size = (self._frames[0].size_px,) * 2
        self.facts: Any = {"mirrored": [frame.mirrored for frame in self._frames]}

    def prepared(self, image: Image, camera: int) -> Image:
        """Mirrored and resized; not cropped."""
        frame = self._frames[camera]
        whole = replace(frame, view=frame.view.model_copy(update={"crop_area": 1.0}))
        return whole.prepared(image, f"camera {frame.view.camera!r}")

    def plain(self, picture: Image, camera: int) -> Image:
        """Cropped in the centre where the card crops."""
        area = self._frames[camera].view.crop_area
        return picture if area == 1 else images.crop_centre(picture, area, len(picture))

    def changed(self, picture: Image, camera: int, draws: np.random.Generator) -> Image:
        """Cropped anywhere, in other colours."""
        return augmented(picture, self._frames[camera].view.crop_area, draws)
