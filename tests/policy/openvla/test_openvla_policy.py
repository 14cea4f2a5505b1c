"""OpenVLA as a policy, from a card to commands: conventions, batches, noise, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
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

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import (
    ConventionError,
    DataError,
    MissingCapabilityError,
    MissingDataError,
    UnknownNameError,
)
from vla_bench.policy.base import act_batch
from vla_bench.policy.cards import load_policy
from vla_bench.policy.openvla.heads import DiffusionHead, L1Head, ScalarProjector
from vla_bench.types import Observation

HIDDEN, CHUNK = 64, 8
LIBERO_OPTIONS = {
    **BRIDGE_OPTIONS, "cameras": ["agentview", "robot0_eye_in_hand"], "mirrored": True, "crop_area": 0.9,
    "unnorm_key": ["libero_spatial", "libero_spatial_no_noops"], "units": "controller",
}  # fmt: skip


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("bridge"))


@pytest.fixture(scope="module")
def oft(tmp_path_factory, bridge):
    """The model with OFT's statistics; tests add the parts they use."""
    folder = tmp_path_factory.mktemp("oft")
    for file in bridge.iterdir():
        (folder / file.name).symlink_to(file)
    write_json(folder / "dataset_statistics.json", {"libero_spatial_no_noops": LIBERO})
    return folder


@pytest.fixture
def cards(tmp_path, monkeypatch):
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(folder))
    return folder


@pytest.fixture
def with_parts(oft, tmp_path):
    """A folder with the named parts of OFT beside the model."""
    modules = {
        "action_head": L1Head(HIDDEN, 7),
        "proprio_projector": ScalarProjector(8, HIDDEN),
        "noisy_action_projector": ScalarProjector(1, HIDDEN),
        "diffusion": DiffusionHead(HIDDEN, 7),
    }

    def write(*names: str):
        folder = tmp_path / "parts"
        folder.mkdir()
        for file in oft.iterdir():
            (folder / file.name).symlink_to(file)
        for seed, name in enumerate(names):
            write_part(folder, "action_head" if name == "diffusion" else name, modules[name], seed)
        return folder

    return write


def observation(seed: int, instruction: str = "put the carrot on the plate") -> Observation:
    images = {"agentview": picture(seed), "robot0_eye_in_hand": picture(seed + 100)}
    proprio = {
        "robot0_eef_pos": np.array([0.1, 0.2, 1.0]),
        "robot0_eef_quat": np.array([0.0, 1.0, 0.0, 0.0]),
        "robot0_gripper_qpos": np.array([0.04, -0.04]),
    }
    return Observation(images, proprio, instruction, 0)


def test_a_card_declares_what_the_policy_sees_and_says(bridge, cards):
    write_card(cards, "tiny", bridge, BRIDGE_OPTIONS)
    policy = load_policy("tiny")
    assert policy.spec.cameras == ("agentview",)
    assert policy.spec.chunk_length == 1
    chunk = policy.act([observation(0)])
    assert chunk.actions.shape == (1, 7)
    assert np.abs(chunk.actions).max() <= 1
    assert chunk.actions[0, 6] in (-1.0, 1.0)
    parts = {f"inference.{name}" for name in ("vision", "prefill", "decode")}
    assert set(chunk.timings_ms) == {"preprocess", "inference", "postprocess", *parts}


def test_the_same_observation_gives_the_same_action(bridge, cards):
    write_card(cards, "tiny", bridge, BRIDGE_OPTIONS)
    first, second = load_policy("tiny"), load_policy("tiny")
    for seed in (0, 1):
        second.reset("something else", seed)
        expected = first.act([observation(seed)]).actions
        np.testing.assert_array_equal(second.act([observation(seed)]).actions, expected)


def test_the_newest_observation_and_its_instruction_decide(bridge, cards):
    write_card(cards, "tiny", bridge, BRIDGE_OPTIONS)
    policy = load_policy("tiny")
    expected = policy.act([observation(1)]).actions
    np.testing.assert_array_equal(policy.act([observation(0), observation(1)]).actions, expected)
    others = [
        policy.act([observation(1, text)]).actions for text in ("a", "open the drawer", "z z z z z z z")
    ]
    assert any(not np.array_equal(other, expected) for other in others)


@pytest.mark.parametrize("head", ["tokens", "discrete", "l1"])
def test_a_batch_of_unequal_instructions_gives_the_actions_of_single_calls(oft, with_parts, cards, head):
    folder = with_parts("action_head", "proprio_projector") if head == "l1" else oft
    options = {**LIBERO_OPTIONS, "head": head, "state": head == "l1"}
    if head == "tokens":
        options["cameras"] = ["agentview"]
    write_card(cards, "tiny", folder, options, chunk_predicted=1 if head == "tokens" else CHUNK)
    policy = load_policy("tiny")
    seen = [observation(0, "open it"), observation(1, "put the bowl on the plate"), observation(2, "x")]
    together = act_batch(policy, [[one] for one in seen])
    for one, chunk in zip(seen, together, strict=True):
        np.testing.assert_allclose(chunk.actions, policy.act([one]).actions, rtol=0, atol=1e-5)
    assert together[0].actions.shape == (policy.spec.chunk_length, 7)


def test_oft_sees_both_pictures_and_the_state(with_parts, cards):
    options = {**LIBERO_OPTIONS, "head": "l1", "state": True}
    write_card(cards, "tiny", with_parts("action_head", "proprio_projector"), options, chunk_predicted=CHUNK)
    policy = load_policy("tiny")
    assert policy.spec.proprio == ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    seen = observation(0)
    expected = policy.act([seen]).actions[:, :6]
    wrist = {**seen.images, "robot0_eye_in_hand": picture(5)}
    moved = {**seen.proprio, "robot0_eef_pos": np.array([0.5, -0.2, 1.2])}
    for other in (replace(seen, images=wrist), replace(seen, proprio=moved)):
        assert not np.array_equal(policy.act([other]).actions[:, :6], expected)


def test_the_noise_of_the_diffusion_head_belongs_to_the_episode(with_parts, cards):
    folder = with_parts("diffusion", "noisy_action_projector")
    write_card(
        cards,
        "tiny",
        folder,
        {**LIBERO_OPTIONS, "head": "diffusion", "diffusion_steps": 2},
        chunk_predicted=CHUNK,
    )
    policy = load_policy("tiny")

    def two_chunks(seed: int) -> np.ndarray:
        policy.reset("", seed)
        return np.stack([policy.act([observation(0)]).actions for _ in range(2)])

    first = two_chunks(1)
    np.testing.assert_array_equal(two_chunks(1), first)
    assert not np.array_equal(two_chunks(2), first)
    assert not np.array_equal(first[0], first[1])
    with pytest.raises(MissingCapabilityError, match="one episode at a time"):
        act_batch(policy, [[observation(0)]])


def test_bfloat16_stays_near_float32(with_parts, cards):
    write_card(
        cards, "tiny", with_parts("action_head"), {**LIBERO_OPTIONS, "head": "l1"}, chunk_predicted=CHUNK
    )
    exact, coarse = (load_policy("tiny", name).act([observation(0)]).actions for name in ("fp32", "bf16"))
    np.testing.assert_allclose(coarse[:, :6], exact[:, :6], rtol=0, atol=0.05)
    assert not np.array_equal(coarse, exact)


def test_the_user_can_name_another_folder_than_the_card(bridge, cards):
    write_card(cards, "tiny", bridge / "nowhere", BRIDGE_OPTIONS, argument="checkpoint")
    with pytest.raises(MissingDataError, match="does not exist"):
        load_policy("tiny")
    assert load_policy(f"tiny:{bridge}").act([observation(0)]).actions.shape == (1, 7)
    with pytest.raises(MissingDataError, match="no such folder, and not owner/name"):
        load_policy("tiny:/nowhere/at/all")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"prompt": None}, DataError, "'options.prompt' is missing"),
        ({"gripper": "up"}, DataError, r"options\.gripper = 'up'"),
        ({"mirorred": True}, DataError, "unknown key.*did you mean 'mirrored'"),
        ({"unnorm_key": "libero_goal"}, UnknownNameError, "known: bridge_orig"),
        ({"cameras": ["a", "b"]}, ConventionError, "one picture alone"),
        ({"state": True}, ConventionError, "OFT's heads"),
        ({"head": "l1"}, MissingDataError, "action_head--STEP"),
        ({"device": "gpu7"}, ConventionError, "device 'gpu7'"),
    ],
)
def test_a_card_that_cannot_be_right_is_refused(bridge, cards, change, error, words):
    options = {key: value for key, value in (BRIDGE_OPTIONS | change).items() if value is not None}
    write_card(cards, "tiny", bridge, options)
    with pytest.raises(error, match=words):
        load_policy("tiny")


def test_a_checkpoint_for_another_robot_is_refused(bridge, cards, tmp_path):
    folder = tmp_path / "aloha"
    folder.mkdir()
    for file in bridge.iterdir():
        (folder / file.name).symlink_to(file)
    write_json(
        folder / "dataset_statistics.json", {"aloha": {"action": {"q01": [0.0] * 14, "q99": [1.0] * 14}}}
    )
    write_card(cards, "tiny", folder, {**BRIDGE_OPTIONS, "unnorm_key": "aloha"})
    with pytest.raises(ConventionError, match="actions have 14 numbers, those of one arm 7"):
        load_policy("tiny")


def test_a_picture_of_a_wrong_type_names_the_camera_and_what_was_found(bridge, cards):
    write_card(cards, "tiny", bridge, BRIDGE_OPTIONS)
    policy, seen = load_policy("tiny"), observation(0)
    for wrong, words in (
        (
            seen.images["agentview"].astype(np.float32),
            r"camera 'agentview'.*uint8, found float32 of shape \(256, 256, 3\)",
        ),
        (seen.images["agentview"][..., :2], r"found uint8 of shape \(256, 256, 2\)"),
        ("a.png", "found str"),
    ):
        with pytest.raises(ConventionError, match=words):
            policy.act([replace(seen, images={"agentview": wrong})])
    with pytest.raises(ConventionError, match="camera 'agentview' is not in the observation; it has front"):
        policy.act([replace(seen, images={"front": seen.images["agentview"]})])


def test_a_precision_that_the_card_does_not_list_is_refused(bridge, cards):
    write_card(cards, "tiny", bridge, BRIDGE_OPTIONS)
    with pytest.raises(MissingCapabilityError, match="not at 'bnb_int8'"):
        load_policy("tiny", "bnb_int8")
