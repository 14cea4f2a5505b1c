"""What OpenVLA sees in training: rotation, JPEG and resizing once; crop and colours every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from vla_bench.errors import ConventionError
from vla_bench.learn.training.augmentation import augmented
from vla_bench.policy import images
from vla_bench.policy.openvla.frames import Frames
from vla_bench.types import Image

_DECIDING = {"mirrored", "jpeg", "lanczos"}


class OpenVlaSight:
    """The policy's way of a picture; see `kind.Sight`.

    Args:
        frames: The policy's; its conventions say the size of the data's pictures.

    Raises:
        ConventionError: Resizing first and cropping later is not what inference does.
    """

    def __init__(self, frames: Frames) -> None:
        processor, conventions = frames.processor, frames.conventions
        kinds = {(tower.resize, tower.resample, tower.crop) for tower in processor.towers}
        if len(kinds) > 1 or processor.letterbox is not None:
            raise ConventionError(
                "letterboxes, and towers that see pictures of different sizes, are not trained"
            )
        self._tower, self._area = processor.towers[0], conventions.crop_area
        if self._area < 1 and not conventions.lanczos and conventions.image_px != self._tower.crop:
            raise ConventionError(
                f"crop_area = {self._area} needs lanczos = true: pictures of {conventions.image_px} would be "
                f"cropped before they are resized to {self._tower.crop}"
            )
        self.cameras, self.size = conventions.cameras, self._tower.crop
        self.facts: Any = conventions.model_dump(mode="json", include=_DECIDING)
        self._whole = Frames(conventions.model_copy(update={"crop_area": 1.0}), processor)

    def prepared(self, image: Image, camera: int) -> Image:
        """Rotated, through JPEG, resized; not cropped."""
        ready = self._whole.prepared(image, f"camera {self.cameras[camera]!r}")
        return self._tower.levels(_as_picture(ready))

    def plain(self, picture: Image, camera: int) -> Image:
        """Cropped in the centre where the card crops."""
        return picture if self._area == 1 else images.crop_centre(picture, self._area, len(picture))

    def changed(self, picture: Image, camera: int, draws: np.random.Generator) -> Image:
        """Cropped anywhere, in other colours."""
        return augmented(picture, self._area, draws)


def _as_picture(image: NDArray[np.uint8]) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.ascontiguousarray(image))
