"""What is sent and received is what the card says, and both sides of a convention undo each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.servers import STATE, card_of, observations

from vla_bench import catalog
from vla_bench.errors import ConventionError, UnknownNameError
from vla_bench.policy.arm import robot_state
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.remote.conventions import (
    from_commands,
    observation_of,
    padded,
    pictures,
    read_address,
    read_conventions,
    states,
    to_commands,
)
from vla_bench.policy.remote.wire import WireError

CARDS = [name for name in catalog.policy_files() if read_card(name).family == "remote" and name != "remote"]
SPEC = PolicySpec(cameras=("agentview", "robot0_eye_in_hand"), image_px=(20, 30), proprio=STATE)
(SEEN,) = observations(1, SPEC)


@pytest.fixture
def cards(tmp_path, monkeypatch):
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", CARDS)
def test_actions_and_commands_undo_each_other(name):
    said = read_conventions(read_card(name))
    commands = np.random.Generator(np.random.Philox(3)).uniform(-1, 1, (5, 7))
    commands[:, 6] = [-1, 1, -1, 1, 1]
    np.testing.assert_allclose(to_commands(from_commands(commands, said), said), commands, atol=1e-12)


@pytest.mark.parametrize("name", CARDS)
def test_what_is_shown_is_seen(name):
    said = read_conventions(read_card(name)).model_copy(update={"padded_px": None})
    seen = observation_of(pictures(SEEN, said), states(SEEN, said), "lift it", said)
    for camera in said.cameras.values():
        np.testing.assert_array_equal(seen.images[camera], SEEN.images[camera])
    if said.state:
        turned = Rotation.from_quat(seen.proprio[STATE[1]]).inv() * Rotation.from_quat(SEEN.proprio[STATE[1]])
        assert turned.magnitude() < 1e-6
        for key in STATE[::2]:
            np.testing.assert_array_equal(seen.proprio[key], SEEN.proprio[key])


def test_the_gripper_is_meant_as_the_card_says():
    closing = np.array([[0, 0, 0, 0, 0, 0, 1.0]])
    said = read_conventions(read_card("vla-eval"))
    meant = {"plus_closes": 1.0, "plus_opens": -1.0, "one_closes": 1.0, "one_opens": 0.0}
    for gripper, value in meant.items():
        other = said.model_copy(update={"gripper": gripper})
        assert from_commands(closing, other)[0, 6] == value
        assert to_commands(np.array([[0, 0, 0, 0, 0, 0, value]]), other)[0, 6] == 1.0


def test_metres_become_units_of_the_controller():
    said = read_conventions(read_card("openvla-rest"))
    (command,) = to_commands(np.array([[0.05, 0, -0.025, 0, 0, 0.5, 0]]), said)
    np.testing.assert_allclose(command, [1, 0, -0.5, 0, 0, 1, 1])


def test_what_is_not_finite_stays_so():
    for name in CARDS:
        found = to_commands(np.full((2, 7), np.nan), read_conventions(read_card(name)))
        assert np.isnan(found).all()


def test_a_picture_is_mirrored_only_where_the_card_says_so():
    plain, libero = (read_conventions(read_card(name)) for name in ("vla-eval", "vla-eval-libero"))
    np.testing.assert_array_equal(pictures(SEEN, plain)["agentview"], SEEN.images["agentview"])
    np.testing.assert_array_equal(pictures(SEEN, libero)["agentview"], SEEN.images["agentview"][:, ::-1])


def test_a_resized_picture_keeps_its_proportions_between_black_borders():
    wide = np.full((20, 40, 3), 200, np.uint8)
    square = padded(wide, 40)
    assert square.shape == (40, 40, 3)
    assert (square[10:30] == 200).all()
    assert not square[:10].any()
    assert not square[30:].any()
    assert padded(square, 40) is square


def test_the_shorter_way_round_is_taken_only_where_asked():
    said = read_conventions(read_card("openpi"))
    for shown in observations(8, SPEC):
        whole, short = (
            states(shown, said.model_copy(update={"rotation": r}))["observation/state"][3:6]
            for r in ("robosuite", "shortest")
        )
        np.testing.assert_array_equal(whole, robot_state(shown)[3:6])
        assert np.linalg.norm(short) <= np.pi + 1e-12
        assert (Rotation.from_rotvec(whole).inv() * Rotation.from_rotvec(short)).magnitude() < 1e-6


@pytest.mark.parametrize(
    ("images", "state", "message"),
    [
        ({"agentview": np.zeros((4, 4), np.uint8)}, {}, r"picture 'agentview' is uint8 of shape \(4, 4\)"),
        ({"agentview": np.zeros((4, 4, 3))}, {}, r"picture 'agentview' is float64 of shape \(4, 4, 3\)"),
        ({"agentview": np.zeros((0, 4, 3), np.uint8)}, {}, "picture 'agentview' is uint8"),
        ({"agentview": "text"}, {}, "picture 'agentview' is str"),
        ({}, {"states": np.zeros(7)}, r"state 'states' is float64 of shape \(7,\), expected 8 numbers"),
        ({}, {"states": np.full(8, np.nan)}, "state 'states'"),
        ({}, {"states": {"a": 1}}, "state 'states'"),
    ],
)
def test_what_cannot_be_seen_is_named(images, state, message):
    with pytest.raises(WireError, match=message):
        observation_of(images, state, "x", read_conventions(read_card("vla-eval")))


def test_an_address_is_a_host_and_a_port():
    assert str(read_address("127.0.0.1:8000", "p")) == "127.0.0.1:8000"
    assert str(read_address("gpu-box.lan:65535", "p")) == "gpu-box.lan:65535"
    found = read_address("[::1]:80", "p")
    assert (found.host, str(found)) == ("::1", "[::1]:80")
    for wrong in (
        None,
        "",
        "127.0.0.1",
        ":8000",
        "host:",
        "host:0",
        "host:65536",
        "http://host:80",
        "::1:80",
    ):
        with pytest.raises(ConventionError, match="policy 'p' needs the address of its server"):
            read_address(wrong, "p")


def test_an_alias_stands_for_the_card_that_it_names():
    meant, named = read_card("remote:openpi@127.0.0.1:1"), read_card("openpi:127.0.0.1:1")
    assert meant == named
    assert (meant.name, meant.options["address"], meant.chunk_predicted) == ("openpi", "127.0.0.1:1", 10)
    with pytest.raises(UnknownNameError, match="unknown policy 'vla-evil'; did you mean 'vla-eval'"):
        read_card("remote:vla-evil@127.0.0.1:1")
    for name in ("remote", "remote:vla-eval", "vla-eval"):
        with pytest.raises(ConventionError, match="address"):
            load_policy(name)


def test_a_card_with_an_unknown_protocol_names_the_known(cards):
    card_of(cards, "odd", options={"protocol": "vla-evl", "address": "127.0.0.1:1"})
    with pytest.raises(
        UnknownNameError, match=r"odd\.toml: unknown protocol 'vla-evl'; did you mean 'vla-eval'"
    ):
        load_policy("odd")
