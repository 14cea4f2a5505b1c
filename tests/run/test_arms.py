"""Which arms the lists of a study make, given what the policies' cards list."""

from __future__ import annotations

import json

import pytest
from support.runs import plan_of
from support.worlds import BRIDGE
from typer.testing import CliRunner

from vla_bench import catalog
from vla_bench.cli import app
from vla_bench.run.plan import PlanError
from vla_bench.run.study import load_study
from vla_bench.types import Arm

CARD = 'title = "t"\nfamily = "own"\nadapter = "vla_bench.policy.scripted.simple:Noop"\nlicence = "MIT"\n'


@pytest.fixture(autouse=True)
def cards(tmp_path, monkeypatch):
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    for name, precisions in (("wide", ["bf16", "fp32", "bnb_nf4"]), ("narrow", ["fp32", "bf16"])):
        (tmp_path / f"{name}.toml").write_text(f"{CARD}precisions = {json.dumps(precisions)}\n")


def arms(**keys) -> list[tuple[str, str]]:
    return [(arm.policy, arm.precision) for arm in load_study(**keys).arms]


def test_without_a_precision_every_policy_has_the_first_of_its_card():
    assert arms(policies=("wide", "narrow", "noop")) == [
        ("wide", "bf16"),
        ("narrow", "fp32"),
        ("noop", "fp32"),
    ]
    assert load_study(arm=[{"policy": "wide"}]).arms == (Arm("wide", "bf16"),)


def test_naming_the_first_precision_is_the_same_study():
    unnamed, named = (load_study(policies=("wide",), precisions=q) for q in (None, ("bf16",)))
    assert unnamed.hash == named.hash != load_study(policies=("wide",), precisions=("fp32",)).hash


def test_a_pair_that_a_card_does_not_list_is_left_out_of_a_cross_product():
    study = load_study(policies=("wide", "narrow"), precisions=("bf16", "bnb_nf4"), chunks=(1, 2))
    assert [(a.policy, a.precision, a.chunk_executed) for a in study.arms] == [
        ("wide", "bf16", 1), ("wide", "bf16", 2), ("wide", "bnb_nf4", 1), ("wide", "bnb_nf4", 2),
        ("narrow", "bf16", 1), ("narrow", "bf16", 2),
    ]  # fmt: skip
    assert [(a.policy, a.precision, a.chunk_executed) for a in study.left_out] == [
        ("narrow", "bnb_nf4", 1), ("narrow", "bnb_nf4", 2),
    ]  # fmt: skip


def test_leaving_out_is_the_same_study_as_not_asking():
    crossed = load_study(policies=("wide", "narrow"), precisions=("bf16", "bnb_nf4"))
    pairs = [("wide", "bf16"), ("wide", "bnb_nf4"), ("narrow", "bf16")]
    assert crossed.hash == load_study(arm=[{"policy": p, "precision": q} for p, q in pairs]).hash


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"policies": ("wide", "noop"), "precisions": ("bf16",)}, "'noop' runs at fp32, not at 'bf16'"),
        ({"policies": ("wide",), "precisions": ("bf16", "bnb_int8")}, "not at 'bnb_int8'"),
        ({"arm": ({"policy": "wide"}, {"policy": "narrow", "precision": "bnb_nf4"})}, "not at 'bnb_nf4'"),
        ({"policies": ("wide", "none"), "precisions": ("bf16", "bnb_nf4")}, "unknown policy 'none'"),
    ],
)
def test_what_would_lose_a_policy_or_a_precision_or_is_written_out_is_refused(keys, problem):
    with pytest.raises(PlanError, match=problem):
        plan_of(tasks=(BRIDGE,), **keys)


def test_the_plan_says_what_is_left_out():
    words = ["plan", "--task", BRIDGE, "--policy", "wide,narrow", "--precision", "bf16,bnb_nf4"]
    told = CliRunner().invoke(app, words)
    assert "left out: narrow at bnb_nf4: its card does not list it" in told.output
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert [(arm["policy"], arm["precision"]) for arm in told["arms_left_out"]] == [("narrow", "bnb_nf4")]
    assert not any(item["arm"]["policy"] == "narrow" for item in told["items"] if "nf4" in str(item["arm"]))
