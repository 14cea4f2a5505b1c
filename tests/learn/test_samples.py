"""Samples: the frames and numbers of the data set, in any order, and what follows each."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.demonstrations import (
    LAYOUT,
    MADE_WITH,
    SIZE,
    add_episode,
    numbers,
    picture,
    write_dataset,
    write_hdf5,
)

from vla_bench.errors import ConventionError, DataError, MissingDataError
from vla_bench.learn import decoded
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.learn.samples import Samples
from vla_bench.lerobot.state import robot_state
from vla_bench.lerobot.writer import Recording
from vla_bench.policy.openvla.actions import Scaling
from vla_bench.policy.statistics import Tables

CAMERAS = tuple(LAYOUT.cameras)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three episodes of four frames."""
    return write_dataset(tmp_path_factory.mktemp("samples") / "d")


def test_a_sample_is_the_frame_of_the_data_set(data):
    samples = Samples(data, cameras=CAMERAS)
    assert (len(samples), samples.hz, samples.cameras) == (12, 5.0, CAMERAS)
    assert samples.image_px == dict.fromkeys(CAMERAS, SIZE)
    for index in (11, 0, 6):
        sample, (episode, step) = samples[index], divmod(index, 4)
        states, actions = numbers(episode, 4)
        assert (sample.episode, sample.step) == (episode, step)
        assert sample.instruction == f"do task {episode % 2}"
        np.testing.assert_array_equal(sample.actions, actions[step : step + 1])
        for i, camera in enumerate(CAMERAS):
            np.testing.assert_array_equal(sample.images[camera], picture(10 * episode + step + 50 * i))
        seen = list(list(open_demonstrations(data))[episode].observations())[step]
        for name, value in seen.proprio.items():
            np.testing.assert_array_equal(sample.proprio[name], value)
        np.testing.assert_allclose(robot_state(seen), states[step], atol=1e-6)


def test_actions_beyond_the_end_repeat_the_last_one_and_are_marked(data):
    samples = Samples(data, chunk=3, cameras=())
    _, actions = numbers(1, 4)
    sample = samples[6]
    np.testing.assert_array_equal(sample.actions, actions[[2, 3, 3]])
    assert sample.mask.tolist() == [True, True, False]
    assert samples[-1].mask.tolist() == [True, False, False]
    assert not sample.images
    with pytest.raises(IndexError, match="has 12 frames, asked for 12"):
        _ = samples[12]


def test_a_sample_belongs_to_whoever_got_it(data):
    samples = Samples(data, cameras=CAMERAS[:1])
    first = samples[0]
    first.images[CAMERAS[0]][:] = 0
    first.actions[:] = 0
    for value in first.proprio.values():
        value[:] = 0
    np.testing.assert_array_equal(samples[0].images[CAMERAS[0]], picture(0))
    assert samples[0].actions.any()
    assert any(value.any() for value in samples[0].proprio.values())


def test_pictures_come_at_the_size_that_is_asked_for(data):
    samples = Samples(data, cameras=CAMERAS[:1], image_px=16)
    shrunk = samples[5].images[CAMERAS[0]]
    assert shrunk.shape == (16, 16, 3)
    means = picture(11).reshape(16, 2, 16, 3, 3).mean((1, 3))
    assert np.abs(shrunk - means)[1:-1, 1:-1].mean() < 2


def test_pictures_are_decoded_once(tmp_path):
    folder = write_dataset(tmp_path / "d")
    before = Samples(folder, cameras=CAMERAS)[7]
    for film in folder.rglob("*.mp4"):  # nobody looks into them any more, for their sizes are the same
        film.write_bytes(bytes(film.stat().st_size))
    after = Samples(folder, cameras=CAMERAS)[7]
    for camera in CAMERAS:
        np.testing.assert_array_equal(before.images[camera], after.images[camera])


def test_a_data_set_that_has_grown_is_decoded_anew(tmp_path):
    folder = write_dataset(tmp_path / "d", 1)
    Samples(folder, cameras=CAMERAS)
    with Recording(folder, LAYOUT, MADE_WITH) as recording:
        add_episode(recording, 1)
    samples = Samples(folder, cameras=CAMERAS)
    assert len(samples) == 8
    np.testing.assert_array_equal(samples[7].images[CAMERAS[0]], picture(13))
    assert len(list((folder / decoded.FOLDER).glob("[!.]*"))) == 3, (
        "numbers and two cameras, nothing outdated"
    )


def test_those_who_open_a_data_set_at_once_decode_it_once(tmp_path, monkeypatch):
    folder, decode, decoding = write_dataset(tmp_path / "d"), decoded.Decoded._decode, []
    both = threading.Barrier(2)

    def counted(self, draft, camera, shape):
        decoding.append(camera)
        decode(self, draft, camera, shape)

    def read(_):
        both.wait()
        return Samples(folder, cameras=("agentview",))[11].images["agentview"]

    monkeypatch.setattr(decoded.Decoded, "_decode", counted)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(read, range(2)):
            np.testing.assert_array_equal(found, picture(23))
    assert decoding == ["agentview"]


def test_what_is_held_out_is_not_opened_for_training(tmp_path):
    states, actions = numbers(0, 2)
    with Recording(tmp_path / "d", LAYOUT, MADE_WITH) as recording, recording.draft() as draft:
        for frame in range(2):
            draft.add(dict.fromkeys(CAMERAS, picture(frame)), states[frame], actions[frame])
        draft.keep("bridge/lift_cheese#seed1", "bridge/lift_cheese", "lift the cheese")
    assert len(open_demonstrations(tmp_path / "d")) == 1, "what is asked offline may show it"
    with pytest.raises(DataError, match="shows bridge/lift_cheese, out of distribution"):
        Samples(tmp_path / "d", cameras=())


def test_a_decoding_that_was_interrupted_leaves_nothing_that_looks_whole(tmp_path):
    folder = write_dataset(tmp_path / "d")
    film = next((folder / "videos/observation.images.agentview").rglob("file-002.mp4"))
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"file-002\.mp4"):
        Samples(folder, cameras=("agentview",))
    film.write_bytes(whole)
    np.testing.assert_array_equal(
        Samples(folder, cameras=("agentview",))[11].images["agentview"], picture(23)
    )


def test_libero_files_are_samples_too(tmp_path):
    file = write_hdf5(tmp_path / "put_the_bowl_on_the_plate_demo.hdf5")
    samples = Samples(file, chunk=2, cameras=("agentview",))
    assert (len(samples), samples.hz) == (10, 20.0)
    np.testing.assert_array_equal(samples[6].images["agentview"], picture(2, (24, 32)))


def test_the_statistics_are_exact_and_what_checkpoints_carry(data):
    samples = Samples(data, cameras=())
    actions = np.concatenate([numbers(episode, 4)[1] for episode in range(3)])
    states = np.concatenate([numbers(episode, 4)[0] for episode in range(3)])
    found = samples.statistics
    assert (found["num_transitions"], found["num_trajectories"]) == (12, 3)
    assert found["action"]["mask"] == [True] * 6 + [False]
    np.testing.assert_array_equal(found["action"]["q01"], np.quantile(actions, 0.01, axis=0))
    np.testing.assert_array_equal(found["action"]["max"], actions.max(0))
    np.testing.assert_allclose(found["action"]["std"], actions.std(0))
    np.testing.assert_allclose(found["proprio"]["mean"], states.mean(0), atol=1e-6)
    low, high, mask = Tables({"d": found}, data).numbers("d", "action", ("q01", "q99"))
    normalised = Scaling(low, high, mask).normalise(actions)
    assert np.abs(normalised[:, :6]).max() <= 1.0
    np.testing.assert_array_equal(normalised[:, 6], actions[:, 6])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"cameras": ("top",)}, ConventionError, "no camera 'top'; it has"),
        ({"cameras": (), "chunk": 0}, ConventionError, "at least 1, got 0"),
        ({"cameras": (), "image_px": 0}, ConventionError, "at least 1, got 1 and 0"),
    ],
)
def test_what_cannot_be_asked_for_is_named(data, options, error, words):
    with pytest.raises(error, match=words):
        Samples(data, **options)


def test_no_data_set_and_an_empty_one_are_errors(tmp_path):
    with pytest.raises(MissingDataError, match="no such data set"):
        Samples(tmp_path / "none", cameras=())
    with pytest.raises(DataError, match="holds no episode yet"):
        Samples(write_dataset(tmp_path / "d", 0), cameras=())
    folder = write_dataset(tmp_path / "half", 2)
    shutil.rmtree(folder / "meta/episodes")
    with pytest.raises(DataError, match="the recording was interrupted"):
        Samples(folder, cameras=())


def test_films_of_lower_colour_are_read_as_the_reader_reads_them(tmp_path):
    folder = write_dataset(tmp_path / "d", 1, dataclasses.replace(LAYOUT, encoding="film"))
    seen = list(next(iter(open_demonstrations(folder))).observations(CAMERAS))
    samples = Samples(folder, cameras=CAMERAS)
    for frame, observation in enumerate(seen):
        for camera in CAMERAS:
            np.testing.assert_array_equal(samples[frame].images[camera], observation.images[camera])


def test_several_data_sets_are_one_after_the_other_with_the_statistics_of_the_first(data, tmp_path):
    second = write_dataset(tmp_path / "d", 1, length=6)
    both = Samples([data, second], chunk=3, cameras=CAMERAS)
    alone = [Samples(folder, chunk=3, cameras=CAMERAS) for folder in (data, second)]
    assert len(both) == sum(map(len, alone))
    for index, expected in ((5, alone[0][5]), (len(alone[0]), alone[1][0]), (len(both) - 1, alone[1][5])):
        sample = both[index]
        assert (sample.step, sample.instruction) == (expected.step, expected.instruction)
        np.testing.assert_array_equal(sample.actions, expected.actions)
        np.testing.assert_array_equal(sample.mask, expected.mask)
        for camera in CAMERAS:
            np.testing.assert_array_equal(sample.images[camera], expected.images[camera])
    assert both[len(alone[0])].episode == alone[0][-1].episode + 1
    assert both.statistics == alone[0].statistics
    assert len({both.digest, *(each.digest for each in alone)}) == 3


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (dataclasses.replace(LAYOUT, fps=10.0), r"frequency \(Hz\) 5 and 10"),
        (dataclasses.replace(LAYOUT, cameras={"agentview": (32, 48)}), "robot0_eye_in_hand 32×48 and none"),
        (
            dataclasses.replace(LAYOUT, action=tuple("abcdefg"), action_convention="joints"),
            "kind of action delta_pose and joints",
        ),
    ],
)
def test_data_sets_that_differ_do_not_go_together(data, tmp_path, layout, words):
    other = tmp_path / "d"
    with Recording(other, layout, MADE_WITH) as recording, recording.draft() as draft:
        states, actions = numbers(0, 4)
        for frame in range(4):
            draft.add(
                {name: picture(frame, layout.cameras[name]) for name in layout.cameras},
                states[frame],
                actions[frame],
            )
        draft.keep("k", "", "do it")
    with pytest.raises(ConventionError, match=f"{data} and {other} do not go together: .*{words}"):
        Samples([data, other], cameras=CAMERAS)
    with pytest.raises(ConventionError, match="is named twice"):
        Samples([data, data], cameras=CAMERAS)
