"""Batches are functions of their number; what is changed at random stays close to what inference sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.demonstrations import picture
from support.training import config, demonstrations, goal, opened

from vla_bench import seeding
from vla_bench.errors import ConventionError
from vla_bench.learn.training.augmentation import augmented
from vla_bench.learn.training.batches import Supply
from vla_bench.policy import images


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return demonstrations(tmp_path_factory.mktemp("data") / "set")


def draws(key: int) -> np.random.Generator:
    return seeding.generator("statistics", "augmentation", key)


class Still:
    """Draws the middle of every range: no change of colour, and a crop in the centre."""

    def uniform(self, size):
        return np.full(size, 0.5)


def test_a_batch_is_the_same_whenever_it_is_asked_for(data, tmp_path):
    first, second = (opened(data, tmp_path).batches for _ in range(2))
    asked = {number: first.batch(number) for number in (5, 0, 3)}
    for number in (0, 3, 5):
        again = second.batch(number)
        assert torch.equal(asked[number].pixels, again.pixels)
        assert np.array_equal(asked[number].values, again.values)
        assert asked[number].prompts == again.prompts


def test_every_sample_comes_once_an_epoch_and_changed_anew_in_each(data, tmp_path):
    batches = opened(data, tmp_path, config(batch=12)).batches
    epochs = [batches.batch(number) for number in range(2)]
    actions = [sorted(map(tuple, epoch.values[:, 0].tolist())) for epoch in epochs]
    assert actions[0] == actions[1]
    assert len(set(actions[0])) == 12
    assert not np.array_equal(epochs[0].values, epochs[1].values), "in another order"
    assert not set(map(bytes, epochs[0].pixels.numpy())) & set(map(bytes, epochs[1].pixels.numpy()))


def test_the_seed_decides_the_order(data, tmp_path):
    first, other = (opened(data, tmp_path / str(s), config(seed=s)).batches.batch(0) for s in (0, 1))
    assert not np.array_equal(first.values, other.values)


@pytest.mark.parametrize("area", [0.9, 1.0])
def test_without_change_a_picture_is_what_inference_sees(area):
    image = picture(3, (28, 28))
    still: np.random.Generator = Still()  # type: ignore[assignment]
    expected = image if area == 1 else images.crop_centre(image, area, 28)
    found = augmented(image, area, still)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_changes_are_random_and_bounded():
    image = picture(3, (28, 28))
    made = [augmented(image, 0.9, draws(key)) for key in range(30)]
    assert len({each.tobytes() for each in made}) == 30
    assert np.array_equal(made[4], augmented(image, 0.9, draws(4)))
    means = np.array([each.mean() for each in made]) - images.crop_centre(image, 0.9, 28).mean()
    assert 5 < np.abs(means).max() < 0.2 * 255 + 20


def test_hue_and_saturation_leave_grey_alone():
    grey = np.full((8, 8, 3), 100, np.uint8)
    found = augmented(grey, 1.0, draws(0))
    assert np.ptp(found, axis=-1).max() == 0


def test_a_thread_hands_out_batches_in_order_and_passes_errors_on(data, tmp_path):
    batches = opened(data, tmp_path).batches
    with Supply(batches).starting(2) as supply:
        for number in (2, 3, 4):
            assert torch.equal(supply.next().pixels, batches.batch(number).pixels)

    class Broken:
        def batch(self, number):
            raise ConventionError("no picture")

    with Supply(Broken()).starting(0) as supply, pytest.raises(ConventionError, match="no picture"):  # type: ignore[arg-type]
        supply.next()


def test_prepared_pictures_are_made_once_for_a_way_of_seeing(data, tmp_path):
    opened(data, tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pictures-*.npy")}
    assert len(made) == 1
    opened(data, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("pictures-*.npy")} == made


def test_a_way_of_seeing_that_cannot_be_prepared_is_refused(data, tmp_path):
    with pytest.raises(ConventionError, match="needs lanczos"):
        opened(data, tmp_path, what=goal(lanczos=False))
    assert opened(data, tmp_path / "whole", what=goal(lanczos=False, crop_area=1.0)).batches.training.size


def test_a_camera_that_the_data_lack_is_named(data, tmp_path):
    with pytest.raises(ConventionError, match=r"no camera 'wrist'"):
        opened(data, tmp_path, what=goal(cameras=("wrist",)))
