import pytest
from support.runs import plan_of
from support.worlds import BRIDGE

from vla_bench.axes.certificates import certificates
from vla_bench.run.provenance import describe_session, header_of
from vla_bench.run.records import ExpertRate


def header(**keys):
    return header_of(plan_of(policies=("noop",), episodes=1, **keys), describe_session(["x"]))


def test_the_header_names_the_published_task_of_each_task_that_mirrors_one():
    published = header(suites=("bridge",), task_axis=("language",)).published
    assert len(published) == 6, "three pairs of prompts"
    assert len(set(published.values())) == 3
    assert published["bridge/lift_cheese"] == published["bridge/lift_red_chili_pepper"]


def test_tasks_that_mirror_nothing_are_not_in_it():
    assert BRIDGE.startswith("bridge_base/")
    assert header(tasks=(BRIDGE,)).published == {}


def test_the_header_holds_what_the_expert_reached_where_a_certificate_says_so():
    known = header(tasks=(BRIDGE,)).certificates
    shipped = certificates("bridge_base")[BRIDGE, ""]
    assert known == {f"{BRIDGE}|": ExpertRate(n=shipped.n, successes=shipped.solved)}


def test_nothing_is_certified_without_a_certificate(monkeypatch):
    monkeypatch.setattr("vla_bench.run.provenance.certificate", lambda task, variation: None)
    assert header(tasks=(BRIDGE,)).certificates == {}


def test_the_header_knows_which_targets_move_by_themselves():
    conveyor = "bridge_base/lift_the_red_block_from_the_conveyor"
    assert header(tasks=(conveyor, BRIDGE)).moving == (f"{conveyor}|",)
    varied = header(
        tasks=(BRIDGE,), uncertified="run", variations=("", "motion.moving_target@2", "visual.lighting@1")
    )
    assert varied.moving == (f"{BRIDGE}|motion.moving_target@2",)


def test_the_header_knows_the_median_of_every_latency_that_is_known():
    names = ("constant:50ms", "live", "model:openvla-bnb_int8-a5000*0.5")
    used = header(tasks=(BRIDGE,), pacings=("realtime",), latencies=names).latencies
    assert [used[name].median_ms for name in names] == [50.0, None, pytest.approx(416.67, abs=0.01)]
