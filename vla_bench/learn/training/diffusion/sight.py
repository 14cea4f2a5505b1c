"""What a Diffusion Policy sees in training: pictures as they are, cut anywhere instead of in the middle."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.learn.training.augmentation import augmented
from vla_bench.policy.diffusion.conventions import Conventions
from vla_bench.policy.diffusion.design import Design
from vla_bench.types import Image


class DiffusionSight:
    """The policy's way of a picture; see `kind.Sight`.

    Args:
        design: Says sizes and crops.
        conventions: Say which cameras, and whether pictures are mirrored.

    Raises:
        ConventionError: Cameras differ in size, or there is none.
        MissingCapabilityError: Pictures are resized by the network.
    """

    def __init__(self, design: Design, conventions: Conventions) -> None:
        sizes = {camera.size for camera in design.cameras}
        if len(sizes) != 1:
            raise ConventionError(f"cameras of one size are trained, the design has {sorted(sizes)}")
        if resized := [camera.key for camera in design.cameras if camera.resize is not None]:
            raise MissingCapabilityError(f"{resized[0]!r} is resized by the network, which is not trained")
        self.cameras = tuple(conventions.cameras[camera.key] for camera in design.cameras)
        self.size: tuple[int, int] = sizes.pop()
        self.facts: Any = {"mirrored": conventions.mirrored}
        self._crops = [camera.crop or camera.size for camera in design.cameras]
        self._mirrored = conventions.mirrored

    def prepared(self, image: Image, camera: int) -> Image:
        """Mirrored, where the card says so.

        Raises:
            ConventionError: It has another size than the model takes.
        """
        if image.shape[:2] != self.size:
            raise ConventionError(
                f"pictures of {self.cameras[camera]!r} are {image.shape[:2]}, the model takes {self.size}: "
                "record them at this size (--image-px), or change `size` and `crop` in the architecture"
            )
        return np.ascontiguousarray(image[:, ::-1]) if self._mirrored else image

    def plain(self, picture: Image, camera: int) -> Image:
        """As it is: the network cuts it in the middle."""
        return picture

    def changed(self, picture: Image, camera: int, draws: np.random.Generator) -> Image:
        """Cut anywhere, in other colours."""
        height, width = self._crops[camera]
        top = int(draws.integers(picture.shape[0] - height + 1))
        left = int(draws.integers(picture.shape[1] - width + 1))
        return augmented(picture[top : top + height, left : left + width], 1.0, draws)
