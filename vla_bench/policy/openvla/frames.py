"""From an observation to the model's pixels, as the checkpoint was trained to see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_bench.policy import images
from vla_bench.policy.openvla.conventions import Conventions, pictures
from vla_bench.policy.openvla.processor import ImageProcessor, as_rgb
from vla_bench.types import Image, Observation


@dataclass(frozen=True, slots=True)
class Frames:
    """The path of a picture.

    Attributes:
        conventions: Which steps it takes.
        processor: Of the checkpoint; its size is the one that pictures are brought to.
    """

    conventions: Conventions
    processor: ImageProcessor

    def __call__(self, observation: Observation) -> NDArray[np.float32]:
        """One observation → (cameras × towers × 3, height, width) float32.

        Raises:
            ConventionError: A camera is missing, or its picture is not (H, W, 3) uint8.
        """
        names = self.conventions.cameras
        seen = zip(names, pictures(observation, names), strict=True)
        return np.concatenate([self.processor(self.prepared(image, f"camera {n!r}")) for n, image in seen])

    def prepared(self, image: Image, what: str = "picture") -> Image:
        """(H, W, 3) uint8, upright → (height, width, 3) uint8 that the processor only has to normalise."""
        height, width = self.processor.towers[0].crop
        conventions = self.conventions
        image = np.asarray(as_rgb(image, what))
        if conventions.mirrored:
            image = image[:, ::-1]
        if conventions.jpeg:
            image = images.jpeg_round_trip(image)
        if conventions.lanczos:
            image = images.lanczos3(image, height, width)
        if conventions.crop_area < 1:
            image = images.crop_centre(image, conventions.crop_area, height)
        return image
