"""What OpenVLA tells of itself: how it came to an action, and what it would do under other conventions."""

from __future__ import annotations

import numpy as np
import pytest
from support.openvla import BRIDGE, BRIDGE_OPTIONS, LIBERO, picture, write_card, write_checkpoint, write_json

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.policy.base import explain, is_adjustable
from vla_bench.policy.cards import load_policy
from vla_bench.policy.openvla.actions import ActionTokens
from vla_bench.policy.openvla.telling import strangers
from vla_bench.types import Observation

SEEN = [Observation({"agentview": picture(3)}, {}, "lift the carrot", 0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    other = {"action": {"q01": [0.0] * 14, "q99": [1.0] * 14}}
    tables = {"bridge_orig": BRIDGE, "libero": LIBERO, "two_arms": other, "no_actions": {}}
    write_json(folder / "dataset_statistics.json", tables)
    return folder


@pytest.fixture
def loaded(folder, tmp_path, monkeypatch):
    """Loads the checkpoint with some options of its card changed."""
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path))

    def load(**changes):
        write_card(tmp_path, "tiny", folder, {**BRIDGE_OPTIONS, **changes})
        return load_policy("tiny")

    return load


def test_what_is_told_is_what_was_done(loaded):
    policy = loaded()
    told = explain(policy, SEEN)
    np.testing.assert_array_equal(told.chunk.actions, policy.act(SEEN).actions)
    assert told.tokens is not None
    assert told.normalised is not None
    assert told.physical is not None
    assert told.tokens.shape == told.normalised.shape == told.physical.shape == (1, 7)
    np.testing.assert_array_equal(policy.parts.tokens.decode(told.tokens), told.normalised)
    low, high = (np.array(BRIDGE["action"][name][:6]) for name in ("q01", "q99"))
    np.testing.assert_allclose(told.physical[0, :6], 0.5 * (told.normalised[0, :6] + 1) * (high - low) + low)
    assert "m and rad" in told.units


def test_tokens_that_are_no_actions_are_remarked_upon():
    tokens = ActionTokens()
    assert strangers(tokens, np.array([[31744, 31999]])) == ()
    (remark,) = strangers(tokens, np.array([[31744, 12, 32000]]))
    assert remark.startswith("2 of 3 tokens are no action tokens (31744 to 31999): 12, 32000")


def test_only_statistics_that_fit_the_robot_are_a_choice(loaded):
    policy = loaded()
    assert is_adjustable(policy)
    choices = {choice.option: choice for choice in policy.choices()}
    assert choices["unnorm_key"].others == ("libero",), "two arms and no actions do not fit"
    assert (choices["crop_area"].declared, choices["crop_area"].others) == (1.0, (0.9,))
    assert all(choice.declared not in choice.others for choice in choices.values())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mirrored", True),
        ("crop_area", 0.9),
        ("prompt", "openvla-v01"),
        ("unnorm_key", "libero"),
        ("units", "controller"),
        ("gripper", "one_closes"),
    ],
)
def test_another_option_does_what_a_card_with_it_does(loaded, option, value):
    policy, other = loaded(), loaded(**{option: value})
    choice = next(choice for choice in policy.choices() if choice.option == option)
    assert value in choice.others
    changed = policy.with_option(option, value)
    expected = explain(other, SEEN)
    np.testing.assert_array_equal(explain(changed, SEEN).chunk.actions, expected.chunk.actions)
    np.testing.assert_array_equal(explain(changed, SEEN).normalised, expected.normalised)
    frame = changed.parts.frames(SEEN[0])
    np.testing.assert_array_equal(frame, other.parts.frames(SEEN[0]))
    assert np.array_equal(frame, policy.parts.frames(SEEN[0])) == (option not in ("mirrored", "crop_area"))
    own = explain(policy, SEEN)
    assert own.normalised is not None
    if not choice.changes_input:
        np.testing.assert_array_equal(own.normalised, expected.normalised)
        np.testing.assert_array_equal(changed.commands(own.normalised), expected.chunk.actions)
    np.testing.assert_array_equal(
        policy.act(SEEN).actions, own.chunk.actions, "the policy itself is as it was"
    )


def test_the_weights_are_shared(loaded):
    policy = loaded()
    assert policy.with_option("mirrored", True).parts.model is policy.parts.model
