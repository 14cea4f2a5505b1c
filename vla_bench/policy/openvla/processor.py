"""From pictures to the model's input: resize and normalisation with the constants that the checkpoint stores.

The stored `tvf_*` values win over `means` and `stds`: in openvla-7b they are rounded to bfloat16, and those
ran in training and evaluation. With the exact ones the logits are off by 0.08.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from vla_bench.errors import ConventionError, DataError
from vla_bench.policy import images
from vla_bench.policy.tensors import read_json
from vla_bench.types import Image

FILE = "preprocessor_config.json"
STRATEGIES = ("resize-naive", "resize-crop", "letterbox")
_FILTERS: dict[Any, int] = {"bicubic": 3, "bilinear": 2, "lanczos": 1, "nearest": 0}

Size = int | tuple[int, int]


@dataclass(frozen=True, slots=True)
class TowerTransform:
    """What one tower's half of the input goes through.

    Attributes:
        resize: (height, width), or the length of the shorter side.
        resample: Pillow's number of the filter.
        crop: (height, width) cut from the centre.
        table: (3, 256) float32 normalised value of every level of every channel.
    """

    resize: Size
    resample: int
    crop: tuple[int, int]
    table: NDArray[np.float32]

    def levels(self, image: PIL.Image.Image) -> Image:
        """RGB picture → (crop height, crop width, 3) uint8."""
        resized = _resized(image, self.resize, self.resample)
        return np.asarray(_centre(resized, self.crop))


@dataclass(frozen=True, slots=True)
class ImageProcessor:
    """The processor of a checkpoint.

    Attributes:
        towers: In the order of the channels.
        letterbox: Fill colour of the bars that make the picture square, or None.
    """

    towers: tuple[TowerTransform, ...]
    letterbox: tuple[int, int, int] | None

    def __call__(self, image: Image | PIL.Image.Image) -> NDArray[np.float32]:
        """One picture (H, W, 3) uint8 → (towers × 3, height, width) float32.

        Raises:
            ConventionError: It is something else.
        """
        picture = as_rgb(image)
        if self.letterbox is not None:
            picture = _boxed(picture, self.letterbox)
        # both towers see the same levels, so they are made once
        kinds = {(t.resize, t.resample, t.crop): t for t in self.towers}
        made = {key: tower.levels(picture) for key, tower in kinds.items()}
        each = [images.look_up(t.table, made[t.resize, t.resample, t.crop]) for t in self.towers]
        return np.concatenate(each)


def as_rgb(image: Image | PIL.Image.Image, what: str = "picture") -> PIL.Image.Image:
    """Return a picture as RGB: uint8 of shape (H, W), (H, W, 3) or (H, W, 4), or one of Pillow's.

    `what` names it in errors.

    Raises:
        ConventionError: It has another type or shape.
    """
    if isinstance(image, PIL.Image.Image):
        return image.convert("RGB")
    if not isinstance(image, np.ndarray):
        raise ConventionError(
            f"{what}: expected (H, W, 3) uint8 or a PIL image, found {type(image).__name__}"
        )
    usable = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if image.dtype != np.uint8 or not usable or 0 in image.shape:
        raise ConventionError(f"{what}: expected (H, W, 3) uint8, found {image.dtype} of shape {image.shape}")
    return PIL.Image.fromarray(np.ascontiguousarray(image)).convert("RGB")


def read_processor(folder: Path) -> ImageProcessor:
    """Read `preprocessor_config.json` of a checkpoint folder.

    Raises:
        MissingDataError: There is none.
        DataError: It lacks a key, or names an unknown strategy.
    """
    path = folder / FILE
    return processor(read_json(path), path)


def processor(table: Mapping[str, Any], path: Path) -> ImageProcessor:
    """Build the processor that `table`, the content of the file `path`, describes.

    Raises:
        DataError: A key is missing or the strategy unknown.
    """
    try:
        return _processor(table, path)
    except KeyError as error:
        raise DataError(path, f"key {error.args[0]!r} is missing") from error


def _processor(table: Mapping[str, Any], path: Path) -> ImageProcessor:
    strategy = table.get("image_resize_strategy", "resize-naive")
    if strategy not in STRATEGIES:
        raise DataError(
            path, f"image_resize_strategy = {strategy!r} is unknown; known: {', '.join(STRATEGIES)}"
        )
    sizes = [tuple(size[-2:]) for size in table["input_sizes"]]
    shorter = strategy != "resize-naive"
    fresh = {
        "tvf_resize_params": [
            {"size": min(size) if shorter else list(size), "interpolation": name}
            for size, name in zip(sizes, table["interpolations"], strict=True)
        ],
        "tvf_crop_params": [{"output_size": list(size)} for size in sizes],
        "tvf_normalize_params": [
            {"mean": m, "std": s} for m, s in zip(table["means"], table["stds"], strict=True)
        ],
        "tvf_do_letterbox": strategy == "letterbox",
        # of the last tower, whichever it is
        "tvf_letterbox_fill": [int(255 * x) for x in table["means"][-1]],
    }
    used = {key: table.get(key, value) for key, value in fresh.items()}
    steps = zip(*(used[f"tvf_{name}_params"] for name in ("resize", "crop", "normalize")), strict=True)
    towers = tuple(_tower(path, *step) for step in steps)
    fill = tuple(used["tvf_letterbox_fill"]) if used["tvf_do_letterbox"] else None
    return ImageProcessor(towers, fill)


def _tower(
    path: Path, resize: Mapping[str, Any], crop: Mapping[str, Any], norm: Mapping[str, Any]
) -> TowerTransform:
    size, height_width = resize["size"], _pair(crop["output_size"])
    named: Any = resize["interpolation"]
    resample: Any = _FILTERS.get(named, named)
    if resample not in _FILTERS.values():
        raise DataError(path, f"interpolation {resample!r} is unknown; known: {', '.join(_FILTERS)}")
    table = lookup(norm["mean"], norm["std"])
    return TowerTransform(size if isinstance(size, int) else _pair(size), resample, height_width, table)


def lookup(mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """(3, 256) normalised value of every level: (level/255 − mean) / std in float32."""
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    columns = (np.asarray(x, np.float32)[:, None] for x in (mean, std))
    low, scale = columns
    return (unit[None] - low) / scale


def _pair(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size * (2 if len(size) == 1 else 1)
    return int(height), int(width)


def _resized(image: PIL.Image.Image, size: Size, resample: int) -> PIL.Image.Image:
    width, height = image.size
    if isinstance(size, int):  # the shorter side; the longer one is cut down to a whole number
        short, long = min(width, height), max(width, height)
        other = int(size * long / short)
        size = (other, size) if width <= height else (size, other)
    if (height, width) == size:
        return image
    return image.resize((size[1], size[0]), PIL.Image.Resampling(resample))


def _centre(image: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    top, left = round((image.height - size[0]) / 2), round((image.width - size[1]) / 2)
    if (image.height, image.width) == size:
        return image
    return image.crop((left, top, left + size[1], top + size[0]))


def _boxed(image: PIL.Image.Image, fill: tuple[int, int, int]) -> PIL.Image.Image:
    """Pad to a square, the same on both sides (so that an odd difference leaves it a pixel short)."""
    longest = max(image.size)
    across, down = (longest - image.width) // 2, (longest - image.height) // 2
    box = PIL.Image.new("RGB", (image.width + 2 * across, image.height + 2 * down), fill)
    box.paste(image, (across, down))
    return box
