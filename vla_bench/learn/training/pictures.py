"""The pictures of a data set, as far on the policy's way as they are the same every time.

Rotation, JPEG and resizing are done once and kept in an array on the disk; crop and colours come later.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from vla_bench.errors import ConventionError
from vla_bench.learn.decoded import Progress, digest
from vla_bench.learn.samples import Samples
from vla_bench.lerobot.layout import write_whole
from vla_bench.policy.openvla.frames import Frames

_DECIDING = {"cameras", "mirrored", "jpeg", "lanczos"}


def prepared_pictures(
    samples: Samples, frames: Frames, folder: Path, progress: Progress = lambda done, total: None
) -> NDArray[np.uint8]:
    """(N, cameras, H, W, 3) uint8, mapped from a file in `folder` that is made if it is not there.

    Args:
        samples: With the pictures of the policy's cameras.
        frames: The policy's way of preparing a picture; it is not cropped here.
        folder: Where the file is kept.
        progress: Called with (frames done, frames in all).

    Raises:
        ConventionError: The picture takes another way where it is cropped.
    """
    conventions = frames.conventions
    _require_one_way(samples, frames)
    whole = Frames(conventions.model_copy(update={"crop_area": 1.0}), frames.processor)
    height, width = frames.processor.towers[0].crop
    facts = [digest(samples.folder), conventions.model_dump(mode="json", include=_DECIDING), height, width]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"pictures-{key}.npy"
    shape = (len(samples), len(conventions.cameras), height, width, 3)

    def fill(draft: Path) -> None:
        stored = open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
        for index in range(len(samples)):
            images = samples[index].images
            for place, camera in enumerate(conventions.cameras):
                prepared = whole.prepared(images[camera], f"camera {camera!r}")
                stored[index, place] = whole.processor.towers[0].levels(_as_picture(prepared))
            progress(index + 1, len(samples))
        stored.flush()

    if not path.is_file():
        write_whole(path, fill)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _require_one_way(samples: Samples, frames: Frames) -> None:
    """Resizing first and cropping later must be what inference does."""
    processor, conventions = frames.processor, frames.conventions
    kinds = {(tower.resize, tower.resample, tower.crop) for tower in processor.towers}
    if len(kinds) > 1 or processor.letterbox is not None:
        raise ConventionError("letterboxes, and towers that see pictures of different sizes, are not trained")
    sizes = set(samples.image_px.values())
    if conventions.crop_area < 1 and not conventions.lanczos and sizes != {processor.towers[0].crop}:
        raise ConventionError(
            f"crop_area = {conventions.crop_area} needs lanczos = true: pictures of {sorted(sizes)} would be "
            f"cropped before they are resized to {processor.towers[0].crop}"
        )


def _as_picture(image: NDArray[np.uint8]) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.ascontiguousarray(image))
