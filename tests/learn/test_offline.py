"""Offline accuracy: a policy that repeats the demonstration, tokens, chunks, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from support.demonstrations import LAYOUT, MADE_WITH, numbers, picture, write_dataset
from support.openvla import BRIDGE_OPTIONS, write_card, write_checkpoint
from support.worlds import write_policy

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import ConventionError, DataError, MissingCapabilityError
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.learn.offline import NO_TOKENS, Question, measure, observations_in
from vla_bench.lerobot.writer import Recording
from vla_bench.policy.cards import load_policy

TINY = {**BRIDGE_OPTIONS, "image_px": [32, 48], "control_hz": 5}

CHUNKY = """
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    def __init__(self, card, precision):
        o = card.options
        self.offset = o.get("offset", 0.0) if precision == "bf16" else 0.0
        self.spec = PolicySpec(chunk_length=3, history=2, history_stride_s=0.4, cameras=("agentview",),
                               image_px=(32, 48))
    def reset(self, instruction, seed):
        self.said = instruction
    def act(self, observations):
        assert all(o.instruction == self.said for o in observations)
        reds = [float(o.images["agentview"][0, 0, 0]) for o in observations]
        times = [o.time_ns * 1e-9 for o in observations]
        return ActionChunk(np.tile([*reds, *times, self.offset, 0, 0], (3, 1)))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights that always choose action tokens: all others have the logit 0."""
    folder = write_checkpoint(tmp_path_factory.mktemp("tiny"))
    state = load_file(folder / "model.safetensors")
    head = state["language_model.lm_head.weight"]
    head[: 32000 - 256], head[32000:] = 0, 0
    save_file(state, folder / "model.safetensors")
    return folder


@pytest.fixture
def cards(tmp_path, monkeypatch):
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_demonstrations(write_dataset(tmp_path_factory.mktemp("demos") / "d"))


def test_the_distance_of_a_policy_that_repeats_the_demonstration_is_zero(tmp_path):
    read = open_demonstrations(write_dataset(tmp_path / "d", 1))
    np.savez(tmp_path / "a.npz", actions=numbers(0, 4)[1])
    (report,) = measure(Question(f"replay:{tmp_path / 'a.npz'}", ("fp32",)), read)
    assert set(report.to_demonstration.values()) == {0.0}
    assert report.observations == 4
    assert (report.tokens, report.absent, report.to_reference) == ({}, NO_TOKENS, None)


def test_distances_are_in_metres_and_radians(data):
    """Standing still differs from the demonstration by the demonstration."""
    (report,) = measure(Question("noop", ("fp32",)), data)
    shown = np.abs(np.concatenate([numbers(i, 4)[1] for i in range(3)])[:, :6]).mean(0)
    found = list(report.to_demonstration.values())[:6]
    np.testing.assert_allclose(found, np.append(shown[:3] * 0.05, shown[3:] * 0.5))


def test_a_history_holds_the_instants_that_the_policy_wants(cards, monkeypatch, tmp_path, data):
    """Two observations 0.4 s apart at 5 Hz: frames k − 2 and k; the first stands in for those before."""
    write_policy(cards, "three_at_once", CHUNKY, blind=False, chunk_predicted=3, precisions=["fp32", "bf16"])
    monkeypatch.syspath_prepend(str(cards))
    (report,) = measure(Question("three_at_once", ("fp32",), episodes=1), data)
    red = [int(picture(frame)[0, 0, 0]) for frame in range(4)]
    says = np.array([[red[max(0, k - 2)], red[k], 0.2 * max(0, k - 2), 0.2 * k, 0, 0, 0] for k in range(4)])
    actions = numbers(0, 4)[1]
    pairs = [(says[k], actions[k + i]) for k in range(4) for i in range(3) if k + i < 4]
    expected = np.mean([np.abs(said - shown) for said, shown in pairs], axis=0)
    scale = [0.05] * 3 + [0.5] * 3 + [1.0]
    np.testing.assert_allclose(list(report.to_demonstration.values()), expected * scale)


def test_the_first_precision_is_the_reference(cards, monkeypatch, data):
    code = CHUNKY.replace('o.get("offset", 0.0)', "0.25")
    write_policy(cards, "shifted", code, blind=False, chunk_predicted=3, precisions=["fp32", "bf16"])
    monkeypatch.syspath_prepend(str(cards))
    first, second = measure(Question("shifted", ("fp32", "bf16")), data)
    assert first.to_reference is None
    assert second.to_reference == pytest.approx(
        {name: 0.125 if name == "rotation_y_rad" else 0.0 for name in second.to_reference}
    )


def test_a_history_that_the_frequency_cannot_give_is_refused(cards, monkeypatch, data):
    code = CHUNKY.replace("history_stride_s=0.4", "history_stride_s=0.3")
    write_policy(cards, "odd", code, blind=False, chunk_predicted=3)
    monkeypatch.syspath_prepend(str(cards))
    with pytest.raises(ConventionError, match=r"observations every 0\.3 s, .* has 5 a second"):
        measure(Question("odd", ("fp32",)), data)


def test_tokens_are_counted_against_the_demonstration_and_the_reference(cards, checkpoint, data):
    write_card(cards, "tiny", checkpoint, TINY)
    asked: list[str] = []
    first, same = measure(Question("tiny", ("fp32", "bf16")), data, asked.append)
    assert asked == ["fp32"] * 12 + ["bf16"] * 12
    assert first.tokens["accuracy"]["n"] == 84
    assert first.tokens["exact_match"]["n"] == 12
    assert "agreement" not in first.tokens
    agreement, first_at = same.tokens["agreement"], same.tokens["first_divergence"]
    assert agreement["n"] == 84
    assert sum(first_at) == same.tokens["diverged"]["k"]
    assert same.tokens["kl_nats"] >= 0
    compared = 84 - sum(count * (6 - place) for place, count in enumerate(first_at))
    assert same.tokens["kl_tokens"] == compared
    assert first.applied is not None
    assert first.applied.activations == "float32"


def test_what_the_policy_itself_does_is_matched_exactly(cards, checkpoint, tmp_path, data):
    """Demonstrated by the policy: the arm's tokens are equal; of the gripper only the direction is kept."""
    write_card(cards, "tiny", checkpoint, TINY)
    policy = load_policy("tiny")
    shown = next(iter(data))
    with Recording(tmp_path / "d", LAYOUT, MADE_WITH) as recording, recording.draft() as draft:
        for seen in shown.observations(tuple(LAYOUT.cameras)):
            draft.add(seen.images, np.zeros(8), policy.act([seen]).actions[0])
        draft.keep("k", "t", shown.instruction)
    (report,) = measure(Question("tiny", ("fp32",)), open_demonstrations(tmp_path / "d"))
    assert max(report.to_demonstration.values()) < 1e-7
    by_number = report.tokens["accuracy_by_number"]
    assert [(number["k"], number["n"]) for number in by_number.values()][:6] == [(4, 4)] * 6


def test_a_policy_answers_in_tokens_what_it_does(cards, checkpoint, data):
    write_card(cards, "tiny", checkpoint, TINY)
    policy = load_policy("tiny")
    for seen in next(iter(data)).observations(("agentview",)):
        said = policy.action_logits([seen])
        np.testing.assert_array_equal(said.actions, policy.act([seen]).actions)
        assert said.log_probs.shape == (1, 7, 257)
        np.testing.assert_allclose(np.exp(said.log_probs.astype(float)).sum(-1), 1, atol=1e-5)


def test_forced_tokens_follow_the_demonstration(cards, checkpoint, data):
    """Forced with its own tokens a policy says what it says freely; with others, the first token stays."""
    write_card(cards, "tiny", checkpoint, TINY)
    policy = load_policy("tiny")
    seen = next(next(iter(data)).observations(("agentview",)))
    free = policy.action_logits([seen])
    own = policy.action_logits([seen], free.tokens)
    np.testing.assert_allclose(own.log_probs, free.log_probs, atol=1e-4)
    other = policy.action_logits([seen], 32000 - 1 - np.arange(7)[None] * 30)
    np.testing.assert_allclose(other.log_probs[:, 0], free.log_probs[:, 0], atol=1e-4)
    assert np.abs(other.log_probs[:, 1:] - free.log_probs[:, 1:]).max() > 1e-2
    forced = measure(Question("tiny", ("fp32", "bf16"), forced=True), data)
    assert forced[1].tokens["kl_tokens"] == 84


def test_every_so_many_observations_and_episodes_are_asked(cards, checkpoint, data):
    write_card(cards, "tiny", checkpoint, TINY)
    question = Question("tiny", ("fp32",), episodes=2, every=3)
    (report,) = measure(question, data)
    assert report.observations == observations_in(question, data) == 4


def test_what_does_not_fit_or_does_not_exist_is_said(cards, checkpoint, data, tmp_path):
    write_card(cards, "tiny", checkpoint, {**TINY, "control_hz": 20, "image_px": [224, 224]})
    with pytest.raises(ConventionError, match="acts at 20 Hz, the data were recorded at 5 Hz"):
        measure(Question("tiny", ("fp32",)), data)
    with pytest.raises(ConventionError, match="simulation's state, which no demonstration holds"):
        measure(Question("expert", ("fp32",)), data)
    with pytest.raises(MissingCapabilityError, match="runs at fp32, not at 'bf16'"):
        measure(Question("noop", ("fp32", "bf16")), data)
    with pytest.raises(ConventionError, match="name each precision once"):
        Question("noop", ("fp32", "fp32"))
    with Recording(tmp_path / "d", LAYOUT, MADE_WITH) as recording, recording.draft() as draft:
        draft.add(dict.fromkeys(LAYOUT.cameras, picture(0)), np.zeros(8), np.full(7, np.nan))
        draft.keep("k", "t", "i")
    with pytest.raises(DataError, match="k holds actions that are not finite"):
        measure(Question("noop", ("fp32",)), open_demonstrations(tmp_path / "d"))
