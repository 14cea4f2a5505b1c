"""Films: pictures come back at their instants, without loss where that was asked for, and never fewer."""

from __future__ import annotations

import numpy as np
import pytest
from support.demonstrations import picture

from vla_bench.errors import DataError, MissingDataError
from vla_bench.lerobot.pictures import ENCODINGS, Film, read_film

NOISE = np.random.default_rng(0).integers(0, 256, size=(6, 32, 48, 3)).astype(np.uint8)


def write(path, pictures, fps=20.0, encoding="lossless"):
    with Film(path, pictures[0].shape[:2], fps, ENCODINGS[encoding]) as film:
        for each in pictures:
            film.add(each)
    return path


@pytest.mark.parametrize("fps", [3.0, 5.0, 20.0, 12.5])
def test_a_lossless_film_returns_even_noise_exactly(tmp_path, fps):
    path = write(tmp_path / "a.mp4", NOISE, fps)
    np.testing.assert_array_equal(list(read_film(path, 6, fps)), NOISE)


def test_a_film_can_be_read_from_any_instant(tmp_path):
    path = write(tmp_path / "a.mp4", NOISE)
    for start in range(6):
        np.testing.assert_array_equal(list(read_film(path, 6 - start, 20.0, start / 20)), NOISE[start:])


def test_saturated_colour_next_to_grey_is_what_a_film_loses(tmp_path):
    stripes = np.zeros((32, 48, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    flat = np.full((32, 48, 3), 120, np.uint8)
    lost, kept = list(read_film(write(tmp_path / "a.mp4", [stripes, flat], encoding="film"), 2, 20.0))
    assert np.abs(lost.astype(int) - stripes).max() > 50
    assert np.abs(kept.astype(int) - flat).max() <= 2
    smooth = next(read_film(write(tmp_path / "b.mp4", [picture(0)], encoding="film"), 1, 20.0))
    assert np.abs(smooth.astype(int) - picture(0)).mean() < 3


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    for encoding in ENCODINGS:
        first, second = (write(tmp_path / f"{name}.mp4", NOISE, encoding=encoding) for name in "ab")
        assert first.read_bytes() == second.read_bytes()
        assert write(tmp_path / "c.mp4", NOISE[::-1], encoding=encoding).read_bytes() != first.read_bytes()


def test_too_few_pictures_another_rate_and_rubbish_are_errors(tmp_path):
    path = write(tmp_path / "a.mp4", NOISE)
    with pytest.raises(DataError, match="ends after 6 of 7 pictures"):
        list(read_film(path, 7, 20.0))
    with pytest.raises(DataError, match=r"has no picture 1 at 0\.020 s, 50 Hz"):
        list(read_film(path, 6, 50.0))
    (tmp_path / "b.mp4").write_bytes(b"no film")
    with pytest.raises(DataError, match="damaged or half-written"):
        list(read_film(tmp_path / "b.mp4", 1, 20.0))
    with pytest.raises(MissingDataError, match="no such film"):
        list(read_film(tmp_path / "c.mp4", 1, 20.0))
