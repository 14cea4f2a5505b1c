"""Diffusion Policy as a policy, from a card to commands: conventions, noise, batches, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.diffusion import configuration, observation, write_card, write_official

from vla_bench import catalog
from vla_bench.axes.simulation import build_simulation
from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import ConventionError, DataError, MissingDataError, UnknownNameError
from vla_bench.policy.base import act_batch, precision_report
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.run.conventions import check_card, check_conventions
from vla_bench.types import CameraView, Episode


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_official(tmp_path_factory.mktemp("official") / "latest.ckpt")


@pytest.fixture(scope="module")
def absolute(tmp_path_factory):
    folder = tmp_path_factory.mktemp("absolute")
    return write_official(folder / "latest.ckpt", configuration(action_size=10, absolute=True))


@pytest.fixture
def cards(tmp_path, monkeypatch):
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(folder))
    return folder


@pytest.fixture
def policy(official, cards):
    write_card(cards, "tiny", official)
    return load_policy("tiny")


def history(seed: int, time_ns: int = 0, **changes) -> list:
    return [observation(seed, **changes), observation(seed + 1000, time_ns=time_ns, **changes)]


def tabletop():
    """A task of this project that has been reset."""
    task = catalog.task("bridge_base/put_the_carrot_on_the_plate")
    simulation = build_simulation(task)
    simulation.reset(Episode(task.id, seed=0))
    return simulation


def test_a_card_declares_what_the_policy_sees_and_says(policy):
    spec = policy.spec
    assert (spec.cameras, spec.image_px) == (("agentview",), (48, 48))
    assert (spec.history, spec.history_stride_s, spec.control_hz) == (2, 0.05, 20)
    assert (spec.chunk_length, spec.action_size, spec.action_convention) == (7, 7, "delta_pose")
    assert spec.proprio == ("robot0_eef_pos", "robot0_eef_quat")
    chunk = policy.act(history(0))
    assert chunk.actions.shape == (7, 7)
    assert np.abs(chunk.actions).max() <= 1
    assert np.ptp(chunk.actions) > 0
    phases = {"preprocess", "inference", "inference.vision", "inference.denoise", "postprocess"}
    assert set(chunk.timings_ms) == phases
    check_card(policy, read_card("tiny"))


def test_the_noise_belongs_to_the_episode_and_the_time(policy):
    policy.reset("", 1)
    first = policy.act(history(0)).actions
    policy.act(history(5))
    np.testing.assert_array_equal(policy.act(history(0)).actions, first)
    assert not np.array_equal(policy.act(history(0, time_ns=50_000_000)).actions, first)
    policy.reset("", 2)
    assert not np.array_equal(policy.act(history(0)).actions, first)


def test_a_batch_sees_the_noise_of_its_episodes_in_any_order(policy):
    histories, seeds = [history(i) for i in range(3)], [7, 8, 9]
    single = []
    for seed, seen in zip(seeds, histories, strict=True):
        policy.reset("", seed)
        single.append(policy.act(seen).actions)
    together = act_batch(policy, histories, seeds)
    backwards = act_batch(policy, histories[::-1], seeds[::-1])[::-1]
    for alone, chunk, other in zip(single, together, backwards, strict=True):
        np.testing.assert_allclose(chunk.actions, alone, rtol=0, atol=1e-4)
        np.testing.assert_allclose(other.actions, alone, rtol=0, atol=1e-4)
    with pytest.raises(ConventionError, match="3 episodes need as many seeds, found 0"):
        act_batch(policy, histories)


def test_every_input_decides_and_the_newest_instruction_is_not_one(policy):
    expected = policy.act(history(0)).actions
    older, newer = history(0)
    changed = observation(3)
    assert not np.array_equal(policy.act([changed, newer]).actions, expected)
    for part in ("images", "proprio"):
        seen = {"images": newer.images, "proprio": newer.proprio} | {part: getattr(changed, part)}
        other = type(newer)(seen["images"], seen["proprio"], newer.instruction, newer.time_ns)
        assert not np.array_equal(policy.act([older, other]).actions, expected)
    told = policy.act(history(0, instruction="something else")).actions
    np.testing.assert_array_equal(told, expected)


def test_mirrored_exchanges_left_and_right(policy, official, cards):
    write_card(cards, "mirrored", official, {"mirrored": True})
    seen = history(0)
    turned = [
        type(o)({n: i[:, ::-1] for n, i in o.images.items()}, o.proprio, o.instruction, o.time_ns)
        for o in seen
    ]
    expected = policy.act(turned).actions
    np.testing.assert_array_equal(load_policy("mirrored").act(seen).actions, expected)
    assert not np.array_equal(policy.act(seen).actions, expected)


def test_the_card_may_take_fewer_steps_and_no_fresh_noise(policy, official, cards):
    write_card(cards, "ddim", official, {"sampler": "ddim", "steps": 5})
    other = load_policy("ddim")
    assert other.parts.design.diffusion.sampler == "ddim"
    assert len(other.parts.passes.schedule.steps) == 5
    assert not np.array_equal(other.act(history(0)).actions, policy.act(history(0)).actions)
    write_card(cards, "many", official, {"steps": 50})
    with pytest.raises(ConventionError, match="steps is 50, the checkpoint's schedule has 10"):
        load_policy("many")


def test_grippers_of_other_conventions_become_ours(policy, official, cards):
    told = policy.explain(history(0))
    for name, ours in (("unit_opens", lambda g: 1 - 2 * g), ("unit_closes", lambda g: 2 * g - 1)):
        write_card(cards, name, official, {"gripper": name})
        chunk = load_policy(name).act(history(0))
        np.testing.assert_allclose(chunk.actions[:, 6], np.clip(ours(told.physical[:, 6]), -1, 1), atol=1e-6)


def test_poses_are_declared_and_a_task_that_takes_commands_refuses_them(absolute, cards):
    write_card(cards, "poses", absolute, {"actions": "absolute_rot6d"}, action_convention="absolute_pose")
    policy = load_policy("poses")
    assert (policy.spec.action_size, policy.spec.action_convention) == (7, "absolute_pose")
    told = policy.explain(history(0))
    first, second = told.physical[0, 3:6], told.physical[0, 6:9]
    turn = _matrix(told.chunk.actions[0, 3:6])
    np.testing.assert_allclose(turn[0], first / np.linalg.norm(first), atol=1e-6)
    assert abs(turn[1] @ second) > 0
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(told.chunk.actions[:, :3], told.physical[:, :3])
    simulation = tabletop()
    with pytest.raises(ConventionError, match="actions are 'absolute_pose', the task takes 'delta_pose'"):
        check_conventions(simulation, policy, "poses")
    simulation.close()


def _matrix(rotation_vector: np.ndarray) -> np.ndarray:
    x, y, z = rotation_vector
    return torch.linalg.matrix_exp(
        torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    ).numpy()


def test_a_simulation_gives_what_it_takes_and_takes_what_it_gives(official, cards):
    """One task, rendered at the size of the checkpoint."""
    write_card(cards, "tiny", official, {"control_hz": 5})
    policy, simulation = load_policy("tiny"), tabletop()
    check_conventions(simulation, policy, "tiny")
    views = [CameraView(name, *policy.spec.image_px) for name in policy.spec.cameras]
    seen, chunks = [simulation.observe(views)] * 2, []
    for _ in range(2):
        chunks.append(policy.act(seen).actions)
        for action in chunks[-1][:2]:
            for tick in range(simulation.task.ticks_per_step):
                simulation.tick(action if tick == 0 else None)
            seen = [seen[-1], simulation.observe(views)]
    assert chunks[0].shape == (policy.spec.chunk_length, simulation.action_size)
    assert seen[1].time_ns > seen[0].time_ns
    assert not np.array_equal(*chunks)
    simulation.close()


@pytest.mark.parametrize(
    ("options", "keys", "error", "message"),
    [
        ({"cameras": {}}, {}, ConventionError, r"cameras is \[\], the checkpoint's \['agentview_image'\]"),
        ({"proprio": {}}, {}, ConventionError, r"proprio is \[\], the checkpoint's \['robot0_eef_pos'"),
        ({}, {"chunk_predicted": 8}, ConventionError, "chunk_predicted is 8, the checkpoint's 7"),
        ({"actions": "absolute_rot6d"}, {}, ConventionError, "action_convention is 'delta_pose', but"),
        (
            {"actions": "absolute_rot6d"}, {"action_convention": "absolute_pose"}, ConventionError,
            "actions is absolute_rot6d, the checkpoint's delta_pose; .* 10 numbers for each arm, .* have 7",
        ),
        ({"gripper": "shuts"}, {}, DataError, "options.gripper = 'shuts'"),
        ({"mirored": True}, {}, DataError, "unknown key 'options.mirored'; did you mean 'mirrored'"),
        ({"rotation_vectors": ["robot0_quat"]}, {}, UnknownNameError, "unknown rotation 'robot0_quat'; did"),
        ({"text_encoder": "there"}, {}, ConventionError, "has no use for a text encoder, .* 'there'"),
        ({"format": "lerobot"}, {}, DataError, "latest.ckpt: is a file; .* 'lerobot' are folders"),
        ({"device": "abacus"}, {}, ConventionError, "device 'abacus' cannot be used"),
    ],
)  # fmt: skip
def test_a_card_that_does_not_fit_is_refused_with_both_sides(official, cards, options, keys, error, message):
    write_card(cards, "wrong", official, options, **keys)
    with pytest.raises(error, match=message):
        load_policy("wrong")


def test_what_is_observed_must_be_what_was_declared(policy, official, cards):
    older, newer = history(0)
    with pytest.raises(ConventionError, match="takes 2 observations at a time, found 1"):
        policy.act([newer])
    blind = type(newer)({"front": newer.images["agentview"]}, newer.proprio, "", 0)
    with pytest.raises(ConventionError, match="camera 'agentview' is not in the observation; it has front"):
        policy.act([older, blind])
    large = type(newer)({"agentview": np.zeros((64, 64, 3), np.uint8)}, newer.proprio, "", 0)
    with pytest.raises(
        ConventionError, match=r"shape \(64, 64, 3\), the policy takes uint8 of shape \(48, 48"
    ):
        policy.act([older, large])
    write_card(cards, "turned", official, {"rotation_vectors": ["robot0_eef_quat"]})
    with pytest.raises(ConventionError, match="'robot0_eef_quat' has 4 numbers, robot0_eef_quat have 3"):
        load_policy("turned").act([older, newer])


def test_a_task_without_the_camera_refuses_it(official, cards):
    write_card(cards, "side", official, {"cameras": {"agentview_image": "nowhere"}})
    simulation = tabletop()
    with pytest.raises(ConventionError, match=r"needs cameras \['nowhere'\], the task has \['agentview'"):
        check_conventions(simulation, load_policy("side"), "side")
    simulation.close()


@pytest.mark.parametrize("precision", ["bf16", "bnb_nf4"])
def test_precisions_say_how_much_they_really_quantise(policy, precision):
    if precision != "bf16":
        pytest.importorskip("bitsandbytes")
    other = load_policy("tiny", precision)
    report = precision_report(other)
    assert report is not None
    assert report.precision == precision
    expected = policy.act(history(0)).actions
    np.testing.assert_allclose(other.act(history(0)).actions, expected, atol=0.5)
    assert not np.array_equal(other.act(history(0)).actions, expected)
    if precision == "bf16":
        assert report.share == 0
    else:  # convolutions are most of it
        assert 0 < report.share < 0.1
        assert any(name.startswith("encoder.") for name in report.kept)
        assert "unet.diffusion_step_encoder.1" in report.kept


def test_shipped_cards_say_where_their_checkpoint_is():
    for name in (
        "diffusion-lift",
        "diffusion-can",
        "diffusion-square",
        "diffusion-transport",
        "diffusion-tool-hang",
    ):
        with pytest.raises(MissingDataError, match=f"published at https://.*; fetch it .* {name}:FILE"):
            load_policy(name)
