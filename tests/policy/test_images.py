"""Laws of the picture operations; the recordings compare them with TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
from support.openvla import picture

from vla_bench.policy import images


@pytest.mark.parametrize(("height", "width"), [(224, 224), (100, 37), (1, 1), (480, 640)])
def test_jpeg_keeps_shape_and_roughly_the_picture(height, width):
    flat = np.full((height, width, 3), (200, 90, 30), np.uint8)
    assert np.abs(images.jpeg_round_trip(flat).astype(int) - flat).max() <= 4
    assert images.jpeg_round_trip(picture(0, height, width)).shape == (height, width, 3)


@pytest.mark.parametrize("size", [(224, 224), (300, 40), (16, 500)])
def test_lanczos_keeps_a_flat_picture(size):
    flat = np.full((256, 320, 3), 77, np.uint8)
    assert (images.lanczos3(flat, *size) == 77).all()
    assert images.lanczos3(flat, *size).shape == (*size, 3)


def test_lanczos_leaves_a_picture_of_the_right_size_alone():
    image = picture(1)
    assert np.array_equal(images.lanczos3(image, 256, 256), image)


def test_lanczos_treats_rows_and_columns_alike():
    image = picture(2, 60, 60)
    turned = images.lanczos3_float(image.transpose(1, 0, 2), 24, 24).transpose(1, 0, 2)
    np.testing.assert_allclose(images.lanczos3_float(image, 24, 24), turned, atol=1e-3)


def test_the_whole_area_is_the_whole_picture():
    image = picture(3, 224, 224)
    assert np.array_equal(images.crop_centre(image, 1.0, 224), image)


def test_a_crop_is_centred():
    image = picture(4, 101, 101)
    mirrored = images.crop_centre(image[:, ::-1], 0.5, 51)[:, ::-1].astype(int)
    assert np.abs(images.crop_centre(image, 0.5, 51) - mirrored).max() <= 1
