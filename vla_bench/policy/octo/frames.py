"""From an observation to the pictures that the model was trained to see, as the original resizes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_bench.errors import ConventionError
from vla_bench.policy import images
from vla_bench.policy.octo.conventions import View
from vla_bench.types import Image, Observation


@dataclass(frozen=True, slots=True)
class Frame:
    """The path of one camera's picture.

    Attributes:
        view: Camera of the scene, and crop.
        mirrored: Left and right are exchanged first.
        size_px: Side of the square that it becomes.
    """

    view: View
    mirrored: bool
    size_px: int

    def __call__(self, observation: Observation) -> Image:
        """One observation → (size, size, 3) uint8.

        Raises:
            ConventionError: The camera is not in the observation, or its picture is not (H, W, 3) uint8.
        """
        camera = self.view.camera
        if camera not in observation.images:
            found = ", ".join(observation.images) or "none"
            raise ConventionError(f"camera {camera!r} is not in the observation; it has {found}")
        return self.prepared(observation.images[camera], f"camera {camera!r}")

    def prepared(self, image: Image, what: str = "picture") -> Image:
        """(H, W, 3) uint8, upright → (size, size, 3) uint8; `what` names it in errors."""
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            found = f"{image.dtype} of shape {image.shape}"
            raise ConventionError(f"{what}: expected (H, W, 3) uint8, found {found}")
        if self.mirrored:
            image = image[:, ::-1]
        if self.view.crop_area == 1:
            return images.lanczos3(image, self.size_px, self.size_px)
        # not rounded in between
        levels = images.lanczos3_float(image, self.size_px, self.size_px)
        cut = images.crop_centre_float(levels, self.view.crop_area, self.size_px)
        return np.clip(np.rint(cut * np.float32(255)), 0, 255).astype(np.uint8)
