"""LIBERO's files: pictures upright, observation before action, instruction from the name."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from support.demonstrations import numbers, picture, write_hdf5

from vla_bench.errors import ConventionError, DataError
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.lerobot.state import STATE_NAMES, robot_state

NAME = "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5"
CAMERAS = ("agentview", "robot0_eye_in_hand")


def test_pictures_are_upright_and_actions_exact(tmp_path):
    read = open_demonstrations(write_hdf5(tmp_path / NAME))
    assert len(read) == 2
    assert read.conventions.fps == 20
    assert read.conventions.cameras == dict.fromkeys(CAMERAS, (24, 32))
    assert read.conventions.proprio == STATE_NAMES
    for index, episode in enumerate(read):
        states, actions = numbers(100 + index, 6)
        assert episode.instruction == "turn on the stove"
        assert episode.task_id == f"libero_goal/{NAME.removesuffix('_demo.hdf5')}"
        np.testing.assert_array_equal(episode.actions, actions[:5])
        for frame, seen in enumerate(episode.observations(CAMERAS)):
            np.testing.assert_array_equal(seen.images["agentview"], picture(index + frame, (24, 32)))
            np.testing.assert_array_equal(
                seen.images["robot0_eye_in_hand"], picture(index + frame, (24, 32)) // 2
            )
            np.testing.assert_allclose(robot_state(seen), states[frame], atol=1e-9)
            assert seen.time_ns == frame * 50_000_000


def test_pictures_of_the_other_convention_are_not_turned(tmp_path):
    read = open_demonstrations(write_hdf5(tmp_path / NAME, macros_image_convention="opencv"))
    seen = next(next(iter(read)).observations(CAMERAS))
    np.testing.assert_array_equal(seen.images["agentview"], picture(0, (24, 32))[::-1])
    with pytest.raises(DataError, match="macros_image_convention is 'vulkan'; known: opengl, opencv"):
        open_demonstrations(write_hdf5(tmp_path / "b_demo.hdf5", macros_image_convention="vulkan"))


def test_what_was_seen_after_an_action_is_paired_with_the_next_one(tmp_path):
    """The published files; what they show before action 1 is stored with action 0."""
    early = open_demonstrations(write_hdf5(tmp_path / "a_demo.hdf5"))
    late = open_demonstrations(write_hdf5(tmp_path / "b_demo.hdf5", late=True))
    for before, after in zip(early, late, strict=True):
        np.testing.assert_array_equal(after.actions, before.actions[1:])
        pairs = zip(list(before.observations(CAMERAS))[1:], after.observations(CAMERAS), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one.images["agentview"], other.images["agentview"])


def test_the_instruction_of_another_name_is_the_one_in_the_file(tmp_path):
    told = json.dumps({"language_instruction": "do it"})
    read = open_demonstrations(write_hdf5(tmp_path / "mine.hdf5", problem_info=told))
    assert next(iter(read)).instruction == "do it"
    with pytest.raises(DataError, match="has no instruction"):
        open_demonstrations(write_hdf5(tmp_path / "none.hdf5"))


def test_a_folder_of_files_is_one_data_set_of_one_frequency(tmp_path):
    write_hdf5(tmp_path / "d/libero_goal/a_demo.hdf5", demos=1)
    write_hdf5(tmp_path / "d/libero_goal/b_demo.hdf5", demos=12)
    read = open_demonstrations(tmp_path / "d")
    assert [episode.key for episode in read][-2:] == ["b_demo/demo_10", "b_demo/demo_11"]
    assert len(read) == 13
    other = json.dumps({"env_kwargs": {"control_freq": 10}})
    write_hdf5(tmp_path / "d/c_demo.hdf5", env_args=other)
    with pytest.raises(ConventionError, match="has one frequency and one set of cameras"):
        open_demonstrations(tmp_path / "d")


def test_half_written_empty_and_damaged_files_are_errors_that_name_them(tmp_path):
    path = write_hdf5(tmp_path / "a_demo.hdf5")
    with h5py.File(path, "a") as root:
        pictures = root["data/demo_1/obs/agentview_rgb"][:3]
        del root["data/demo_1/obs/agentview_rgb"]
        root["data/demo_1/obs/agentview_rgb"] = pictures
    with pytest.raises(DataError, match=r"a_demo.hdf5: demo_1 is half-written: actions \(5, 7\).*: 3"):
        open_demonstrations(path)
    with h5py.File(tmp_path / "b_demo.hdf5", "w") as root:
        root.create_group("data")
    with pytest.raises(DataError, match="holds no demonstration"):
        open_demonstrations(tmp_path / "b_demo.hdf5")
    with h5py.File(tmp_path / "c_demo.hdf5", "w") as root:
        root.create_group("data/demo_0/obs")
    with pytest.raises(DataError, match="demo_0 lacks actions; it has obs"):
        open_demonstrations(tmp_path / "c_demo.hdf5")
    whole = write_hdf5(tmp_path / "d_demo.hdf5").read_bytes()
    (tmp_path / "d_demo.hdf5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"d_demo\.hdf5: is damaged or half-written"):
        open_demonstrations(tmp_path / "d_demo.hdf5")


def test_without_states_and_joints_the_order_is_that_of_the_file(tmp_path):
    path = write_hdf5(tmp_path / "a_demo.hdf5", demos=1)
    with h5py.File(path, "a") as root:
        for name in ("states", "obs/joint_states", "obs/ee_ori", "obs/eye_in_hand_rgb"):
            del root[f"data/demo_0/{name}"]
    read = open_demonstrations(path)
    assert read.conventions.proprio == ()
    assert set(read.conventions.cameras) == {"agentview"}
    episode = next(iter(read))
    assert len(list(episode.observations(("agentview",)))) == len(episode.actions) == 5
    with pytest.raises(ConventionError, match="no camera"):
        next(episode.observations(CAMERAS))
