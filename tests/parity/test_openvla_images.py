"""Pictures on their way to the model against torchvision's and TensorFlow's."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from support.openvla import fair, recorded

from vla_bench.policy import images
from vla_bench.policy.arm import rotation_vector
from vla_bench.policy.openvla.conventions import Conventions
from vla_bench.policy.openvla.frames import Frames
from vla_bench.policy.openvla.processor import STRATEGIES, ImageProcessor, processor, read_processor

AREA = 0.9


def without_stored_constants(path, strategy: str) -> ImageProcessor:
    """The processor of a checkpoint that only has means and standard deviations."""
    config = path.parent / "tiny/preprocessor_config.json"
    table = {k: v for k, v in json.loads(config.read_text()).items() if not k.startswith("tvf_")}
    return processor({**table, "image_resize_strategy": strategy}, config)


def numbered(data, pattern: str) -> list[str]:
    return sorted(name for name in data.files if re.fullmatch(pattern, name))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("path", recorded("image_processor*.npz"))
def test_openvla_processor_gives_the_recorded_pixels(path, strategy):
    assert path is not None, "CI must have the recordings"
    made = without_stored_constants(path, strategy)
    bound = fair(path, "image_processor/float")
    with np.load(path) as data:
        for name in numbered(data, r"img\d+"):
            if f"{name}_{strategy}_sum" not in data.files:
                continue
            kept = f"{name}_{strategy}_u8_siglip"
            levels = data[kept if kept in data.files else f"{name}_resize-naive_u8_siglip"]
            pixels = made(data[name])
            np.testing.assert_array_equal(np.rint((pixels[3:] * 0.5 + 0.5) * 255), levels)
            for half, tower in ((pixels[:3], "dino"), (pixels[3:], "siglip")):
                recording = data[f"{name}_{strategy}_{tower}_sample"]
                np.testing.assert_allclose(half[:, ::9, ::9], recording, rtol=0, atol=bound)
            np.testing.assert_allclose(
                pixels.sum((1, 2), dtype=np.float64), data[f"{name}_{strategy}_sum"], rtol=1e-6
            )


@pytest.mark.parametrize("path", recorded("image_processor*.npz"))
def test_openvla_processor_uses_the_constants_that_the_checkpoint_stores(path):
    assert path is not None, "CI must have the recordings"
    stored, fresh = read_processor(path.parent / "tiny"), without_stored_constants(path, "resize-naive")
    with np.load(path) as data:
        for made, table in ((stored, "lut_ckpt"), (fresh, "lut_fresh")):
            found = np.concatenate([tower.table for tower in made.towers])
            np.testing.assert_allclose(found, data[table], rtol=0, atol=fair(path, "image_processor/lut"))
        for name in numbered(data, r"img\d+"):
            pixels = stored(data[name])
            for half, tower in ((pixels[:3], "dino"), (pixels[3:], "siglip")):
                recording, bound = (
                    data[f"{name}_ckpt_{tower}_sample"],
                    fair(path, "image_processor/float, ckpt params"),
                )
                np.testing.assert_allclose(half[:, ::9, ::9], recording, rtol=0, atol=bound)
        for kind in ("rgba", "gray"):
            levels = np.rint((stored(data[f"{kind}_in"])[3:] * 0.5 + 0.5) * 255)
            recording = np.broadcast_to(data[f"{kind}_u8"], levels.shape)  # one channel where all are equal
            np.testing.assert_array_equal(levels, recording)


def libero_frames(path, area: float) -> Frames:
    libero = Conventions(
        prompt="openvla", cameras=("agentview",), mirrored=True, jpeg=True, lanczos=True, crop_area=area,
        units="controller", gripper="one_opens", head="tokens",
    )  # fmt: skip
    return Frames(libero, read_processor(path.parent / "tiny"))


@pytest.mark.parametrize("path", recorded("libero_images_tf*.npz"))
def test_openvla_sees_libero_as_tensorflow_showed_it(path):
    assert path is not None, "CI must have the recordings"
    values = wrong = 0
    with np.load(path) as data:
        for name in numbered(data, r"img\d+"):
            upright = data[name][::-1]  # the recording has the bottom row first
            frame = libero_frames(path, 1.0).prepared(upright)
            cropped = libero_frames(path, AREA).prepared(upright)
            assert difference(frame, data[f"{name}_resized"]) <= fair(path, "libero/resize u8")
            assert difference(cropped, data[f"{name}_cropped"]) <= fair(path, "libero/whole pipeline u8")
            values, wrong = values + frame.size, wrong + np.count_nonzero(frame != data[f"{name}_resized"])
    assert wrong <= fair(path, "libero/resize share of differing values") * values


@pytest.mark.parametrize("path", recorded("libero_images_tf*.npz"))
def test_openvla_jpeg_lanczos_and_crop_are_tensorflows(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        for name in numbered(data, r"img\d+"):
            decoded, resized = data[f"{name}_jpeg_decoded"], data[f"{name}_resized"]
            height, width = resized.shape[:2]
            assert difference(images.jpeg_round_trip(data[name][::-1, ::-1]), decoded) == 0
            assert difference(images.crop_centre(resized, AREA, height), data[f"{name}_cropped"]) == 0
            unrounded = images.lanczos3_float(decoded, height, width)[::13, ::13]
            bound = fair(path, "libero/resize float")
            np.testing.assert_allclose(unrounded, data[f"{name}_resized_float_sample"], rtol=0, atol=bound)
            cut = images.crop_centre_float(resized, AREA, height)
            np.testing.assert_allclose(cut[::13, ::13], data[f"{name}_crop_float_sample"], rtol=0, atol=1e-6)
        for name in numbered(data, r"other\d+"):
            height, width = data[f"{name}_resized"].shape[:2]
            made = images.lanczos3(images.jpeg_round_trip(data[name]), height, width)
            assert difference(made, data[f"{name}_resized"]) <= fair(path, "libero/other sizes u8")


@pytest.mark.parametrize("path", recorded("libero_images_tf*.npz"))
def test_openvla_rotation_vectors_are_the_recorded_ones(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        found = np.stack([rotation_vector(quat) for quat in data["quat"]])
        np.testing.assert_allclose(found, data["axisangle"], rtol=0, atol=fair(path, "libero/axis-angle"))


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())
