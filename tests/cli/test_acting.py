"""`vla-bench act` on a checkpoint that runs: what it prints is what the policy does."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
from support.openvla import (
    BRIDGE_OPTIONS,
    LIBERO,
    picture,
    write_card,
    write_checkpoint,
    write_json,
    write_part,
)
from support.worlds import environment, vla_bench

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.policy.cards import load_policy
from vla_bench.policy.openvla.heads import L1Head, ScalarProjector
from vla_bench.types import Observation

TEXT = "pick up the black bowl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, cards, and what the policies are shown."""
    folder = tmp_path_factory.mktemp("act")
    checkpoint = write_checkpoint(folder / "bridge")
    write_card(folder / "cards", "tiny", folder / "nowhere", BRIDGE_OPTIONS, argument="checkpoint")
    parts = folder / "oft"
    parts.mkdir()
    for file in checkpoint.iterdir():
        (parts / file.name).symlink_to(file)
    write_json(parts / "dataset_statistics.json", {"libero": LIBERO})
    write_part(parts, "action_head", L1Head(64, 7), 0)
    write_part(parts, "proprio_projector", ScalarProjector(8, 64), 1)
    options = {
        **BRIDGE_OPTIONS, "cameras": ["agentview", "robot0_eye_in_hand"], "unnorm_key": "libero",
        "units": "controller", "head": "l1", "state": True,
    }  # fmt: skip
    write_card(folder / "cards", "oft", parts, options, chunk_predicted=8)
    PIL.Image.fromarray(picture(0)).save(folder / "x.png")
    np.savez(
        folder / "seen.npz", agentview=picture(0), robot0_eye_in_hand=picture(1),
        robot0_eef_pos=[0.1, 0.2, 1.0], robot0_eef_quat=[0.0, 1.0, 0.0, 0.0],
        robot0_gripper_qpos=[0.04, -0.04],
    )  # fmt: skip
    return folder


def act(folder, *arguments):
    env = environment(**{POLICIES_DIR_VARIABLE: folder / "cards"})
    return vla_bench("act", *arguments, "--instruction", TEXT, env=env)


def test_a_checkpoint_folder_of_ones_own_answers_a_picture(folder, monkeypatch):
    name = f"tiny:{folder / 'bridge'}"
    ended = act(folder, "--policy", name, "--image", folder / "x.png", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(folder / "cards"))
    seen = Observation({"agentview": picture(0)}, {}, TEXT, 0)
    expected = load_policy(name).explain([seen])
    np.testing.assert_array_equal(found["tokens"], expected.tokens)
    np.testing.assert_array_equal(found["normalised"], expected.normalised)
    np.testing.assert_array_equal(found["physical"], expected.physical)
    np.testing.assert_array_equal(found["commands"], expected.chunk.actions)
    assert found["images"] == {"agentview": [256, 256]}
    phases = {name for name in found["timings_ms"] if not name.startswith("inference.")}
    assert phases == {"preprocess", "inference", "postprocess", "total"}
    assert found["repeats"]


def test_a_person_sees_tokens_actions_command_and_the_time_of_each_phase(folder):
    ended = act(folder, "--policy", f"tiny:{folder / 'bridge'}", "--image", folder / "x.png")
    assert ended.returncode == 0, ended.stderr
    firsts = [line.split()[0].rstrip(":") for line in ended.stdout.splitlines() if line.strip()]
    for word in ("saw", "told", "token", "normalised", "physical", "command", "time", "again"):
        assert word in firsts
    assert "preprocess" in ended.stdout
    # the weights are random, so the best of 32,064 tokens is hardly ever an action
    assert "tokens are no action tokens (31744 to 31999)" in ended.stdout


def test_a_chunk_with_two_cameras_and_state_comes_from_a_file_of_arrays(folder):
    ended = act(folder, "--policy", "oft", "--arrays", folder / "seen.npz", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert np.shape(found["commands"]) == np.shape(found["normalised"]) == (8, 7)
    assert found["tokens"] is None
    ended = act(folder, "--policy", "oft", "--image", folder / "x.png")
    assert ended.returncode == 2
    assert "needs the camera 'robot0_eye_in_hand' and the proprioception 'robot0_eef_pos'" in ended.stderr


def test_what_cannot_be_shown_is_said_in_one_sentence(folder):
    ended = act(folder, "--policy", "noop", "--image", folder / "x.png")
    assert (ended.returncode, ended.stderr) == (
        2,
        "vla-bench: this policy looks at no picture; it sees nothing\n",
    )
    ended = act(folder, "--policy", "tiny", "--image", folder / "gone.png")
    assert ended.returncode == 2
    assert "gone.png: no such picture" in ended.stderr
