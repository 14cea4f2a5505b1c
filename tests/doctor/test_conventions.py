"""A policy whose conventions are known, declared rightly and wrongly: each mistake is found, nothing else.

The policy is linear in coarse pixels and fitted here to what the expert does in other episodes.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.linear import SPEC, STATISTICS, TRUE, LinearPolicy, fit
from support.worlds import BRIDGE, ROOT, environment, vla_bench

from vla_bench import catalog
from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.doctor.conventions import diagnose, questions
from vla_bench.doctor.pairs import from_expert
from vla_bench.errors import ConventionError
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk


@pytest.fixture(scope="module")
def weights():
    shown = from_expert(catalog.task(BRIDGE), SPEC, 16, 14, first=1000)
    return fit([pair.seen[-1].images["agentview"] for pair in shown.pairs], shown.done)


@pytest.fixture(scope="module")
def evidence():
    return from_expert(catalog.task(BRIDGE), SPEC, 12, 8)


def verdict(diagnosis):
    """The check that is not about size."""
    (check,) = [check for check in diagnosis.checks if check.name != "size"]
    return check


def test_a_card_that_says_the_truth_is_not_blamed(weights, evidence):
    found = diagnose(LinearPolicy(weights), evidence)
    assert (verdict(found).name, verdict(found).verdict) == ("conventions", "good")
    assert "nothing looks wrong" in verdict(found).text
    assert [check.verdict for check in found.checks] == ["good", "good"]
    assert found.declared.error < 0.8
    assert found.declared.p_pictures is not None
    assert found.declared.p_pictures < 0.01
    assert all(finding.p_better > 0.05 for finding in found.alternatives)
    assert (found.episodes, found.pairs) == (12, 96)


@pytest.mark.parametrize(
    ("wrong", "topic", "remedy"),
    [
        ({"mirrored": False}, "picture", "mirrored pictures (left and right exchanged)"),
        ({"gripper": "one_closes"}, "gripper", "gripper = 'one_opens' instead of 'one_closes'"),
        ({"unnorm_key": "slow"}, "normalisation", "unnorm_key = 'carrots' instead of 'slow'"),
        ({"factor": 0.1}, "action scale", "factor = 1.0 instead of 0.1"),
        ({"factor": 10.0}, "action scale", "factor = 1.0 instead of 10.0"),
        ({"crop_area": 1.0}, "crop", "crop_area = 0.7 instead of 1.0"),
        # two mistakes: the greater one first
        ({"mirrored": False, "gripper": "one_closes"}, "picture", "mirrored pictures"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_a_wrong_convention_is_named_with_its_remedy(weights, evidence, wrong, topic, remedy):
    found = diagnose(LinearPolicy(weights, replace(TRUE, **wrong)), evidence)
    assert (verdict(found).name, verdict(found).verdict) == (topic, "broken"), verdict(found).text
    assert f"with {remedy}" in verdict(found).text


def test_pictures_in_any_other_orientation_or_colours_are_found(weights, evidence):
    """No card says these: the world is changed instead, as a wrong camera driver would."""
    from vla_bench.doctor.alternatives import FLIPS, Shown, with_pictures

    for name in ("upside-down pictures", "pictures turned by 180°", "pictures with red and blue exchanged"):
        turned = Shown(LinearPolicy(weights), lambda seen, name=name: with_pictures(seen, FLIPS[name]))
        check = verdict(diagnose(turned, evidence))
        assert (check.name, check.verdict) == ("picture", "broken"), name
        assert f"with {name}" in check.text


def test_another_pace_than_the_experts_is_a_note(weights, evidence):
    check = verdict(diagnose(LinearPolicy(weights, replace(TRUE, factor=0.5)), evidence))
    assert (check.name, check.verdict) == ("action scale", "note")
    assert "may be another pace" in check.text
    # those that it was fitted to would have been done at its pace
    sure = replace(evidence, pace=1.6)
    check = verdict(diagnose(LinearPolicy(weights, replace(TRUE, factor=0.5)), sure))
    assert (check.name, check.verdict) == ("action scale", "broken")


def test_weights_that_know_nothing_get_no_verdict(weights, evidence):
    """Not even where the card is wrong: smaller commands are nearer to anything, and prove nothing."""
    unknowing = np.random.default_rng(0).normal(0, 0.3, weights.shape)
    for said in (TRUE, replace(TRUE, mirrored=False), replace(TRUE, gripper="one_closes")):
        found = diagnose(LinearPolicy(unknowing, said), evidence)
        assert (verdict(found).name, verdict(found).verdict) == ("conventions", "note")
        assert "cannot tell" in verdict(found).text
        assert any(finding.p_better < 0.05 for finding in found.alternatives)


def test_commands_that_do_not_depend_on_the_picture_are_called_so(weights, evidence):
    deaf = np.zeros_like(weights)
    deaf[-1] = weights[-1]
    check = verdict(diagnose(LinearPolicy(deaf), evidence))
    assert check.verdict == "broken"
    assert "the same command whatever it is shown" in check.text


def test_a_policy_of_which_nothing_can_be_exchanged_is_examined_from_outside(weights, evidence):
    class Plain:
        spec = SPEC

        def __init__(self, said):
            self._policy = LinearPolicy(weights, said)

        def reset(self, instruction, seed):
            pass

        def act(self, observations) -> ActionChunk:
            return ActionChunk(self._policy.act(observations).actions)

    check = verdict(diagnose(Plain(replace(TRUE, gripper="one_closes")), evidence))
    assert (check.name, check.verdict) == ("gripper", "broken")
    assert "with a gripper of the other sign" in check.text
    check = verdict(diagnose(Plain(replace(TRUE, factor=0.1)), evidence))
    assert (check.name, check.verdict) == ("action scale", "broken")
    assert "with commands of the arm times 10" in check.text


def test_answers_are_asked_for_once_each_way(weights, evidence):
    asked = []
    diagnose(LinearPolicy(weights), evidence, lambda: asked.append(1))
    # as declared with own and other pictures, crop, and four changes of the picture
    assert len(asked) == questions(LinearPolicy(weights), evidence) == 7 * 96


def test_too_few_episodes_are_refused_with_the_number_it_takes(weights, evidence):
    few = replace(evidence, episodes=evidence.episodes[:5])
    with pytest.raises(ConventionError, match=r"5 episodes cannot show .* it takes 9 at least"):
        diagnose(LinearPolicy(weights), few)


def test_what_looks_at_no_picture_is_refused(weights, evidence):
    blind = LinearPolicy(weights)
    blind.spec = PolicySpec()
    with pytest.raises(ConventionError, match="looks at no picture"):
        diagnose(blind, evidence)


def test_the_command_prints_the_finding_and_ends_in_an_error_code(weights, tmp_path):
    np.save(tmp_path / "weights.npy", weights)
    (tmp_path / "linear.toml").write_text(
        'title = "t"\nfamily = "own"\nadapter = "support.linear:build"\nlicence = "MIT"\n'
        f'[options]\nweights = "{tmp_path / "weights.npy"}"\nmirrored = false\n'
    )
    env = environment(ROOT / "tests", **{POLICIES_DIR_VARIABLE: tmp_path})
    ended = vla_bench("doctor", "--policy", "linear", "--task", BRIDGE, "--json", env=env)
    assert ended.returncode == 1, ended.stderr
    found = json.loads(ended.stdout)
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    assert verdicts["picture"] == "broken"
    assert verdicts["fit"] == verdicts["first steps"] == "good"
    assert verdicts["pictures"] == "note", "64 pixels are not the protocol's 224"
    assert "carrots" in next(c["text"] for c in found["checks"] if c["name"] == "normalisation")
    assert found["source"] == f"the scripted expert in {BRIDGE}"
    assert len(STATISTICS) == 3


def test_what_cannot_be_examined_is_said_in_one_sentence():
    for arguments, words in (
        (("--policy", "noop"), "with both: --policy and --task"),
        (("--policy", "noop", "--task", BRIDGE), "looks at no picture"),
        (("--policy", "nop", "--task", BRIDGE), "unknown policy 'nop'"),
    ):
        ended = vla_bench("doctor", *arguments)
        assert ended.returncode == 2
        assert words in ended.stderr
