import dataclasses

import numpy as np
import pytest
from support.records import make_record
from support.runs import plan_of

from vla_bench import seeding
from vla_bench.account.statistics import log_e_value
from vla_bench.errors import VlaBenchError
from vla_bench.run.plan import PlanError
from vla_bench.run.stopping import Stopping
from vla_bench.run.study import load_study

TASKS = ("bridge_base/put_the_carrot_on_the_plate", "bridge_base/put_the_eggplant_in_the_pot")
POLICIES = ("expert", "noop", "random")


def plan(stop="decided", policies=POLICIES, episodes=20, **keys):
    return plan_of(
        tasks=TASKS,
        policies=policies,
        episodes=episodes,
        statistics={"stop": stop, "confidence": 0.95},
        **keys,
    )


PLAN = plan()


def record(item, status):
    return dataclasses.replace(make_record(status), key=item.key)


def statuses(rates, key=0, errors=0.0):
    """An outcome for every item: expert, noop and random succeed at these rates."""
    draw = seeding.generator("statistics", "test stopping", key)
    rate = dict(zip(POLICIES, rates, strict=True))
    made = {}
    for item in PLAN.items:
        broken, won = draw.random() < errors, draw.random() < rate[item.arm.policy]
        made[item.key] = "error" if broken else "success" if won else "failure"
    return made


def run_in_turn(the_plan, outcome_of):
    """Run a plan item by item, leaving out what is not needed; returns what was run."""
    stopping, ran = Stopping(the_plan), []
    for item in the_plan.items:
        if not stopping.not_needed(item):
            stopping.saw(record(item, outcome_of[item.key]))
            ran.append(item)
    return stopping, ran


def test_a_plan_that_stops_goes_round_by_round_and_an_ordinary_one_task_by_task():
    def order(made):
        return [(item.episode.seed, item.episode.task_id) for item in made.items[::3]]

    rounds = order(PLAN)
    assert rounds == sorted(rounds)
    ordinary = plan("never")
    assert [task for _, task in order(ordinary)] == [task for task in TASKS for _ in range(20)]
    assert {item.key for item in ordinary.items} == {item.key for item in PLAN.items}


def test_a_clear_difference_is_decided_early_and_the_rest_is_saved():
    outcome_of = statuses((0.95, 0.05, 0.05))
    stopping, ran = run_in_turn(PLAN, outcome_of)
    assert {(d.better.policy, d.worse.policy) for d in stopping.decisions} == {
        ("expert", "noop"), ("expert", "random"),
    }  # fmt: skip
    expert = [item for item in ran if item.arm.policy == "expert"]
    assert 9 <= len(expert) < 30
    assert stopping.saved == len(PLAN.items) - len(ran) == 40 - len(expert)  # the others are still compared
    for decision in stopping.decisions:
        assert decision.p_value <= decision.level == pytest.approx(0.05 / 3)
        assert decision.p_value == pytest.approx(np.exp(-log_e_value(decision.wins, decision.losses)))
        assert (
            decision.wins + decision.losses <= decision.pairs <= decision.episodes <= decision.planned == 40
        )


def test_two_arms_stop_together():
    two = plan(policies=("expert", "noop"), episodes=30)
    outcome_of = {item.key: "success" if item.arm.policy == "expert" else "failure" for item in two.items}
    stopping, ran = run_in_turn(two, outcome_of)
    [decision] = stopping.decisions
    assert (decision.wins, decision.losses, decision.episodes) == (7, 0, 7)  # what log e >= ln 20 needs
    assert len(ran) == 14
    assert stopping.saved == 120 - 14


def test_without_a_difference_everything_is_run():
    outcome_of = {item.key: "success" if item.episode.seed % 2 else "failure" for item in PLAN.items}
    stopping, ran = run_in_turn(PLAN, outcome_of)
    assert (len(ran), stopping.saved, stopping.decisions) == (len(PLAN.items), 0, ())


def test_a_study_that_never_stops_needs_everything():
    made = plan("never")
    stopping, ran = run_in_turn(made, statuses((1.0, 0.0, 0.0)))
    assert (len(ran), stopping.saved, stopping.decisions) == (len(made.items), 0, ())


@pytest.mark.parametrize("key", range(20))
def test_decisions_do_not_depend_on_the_order_of_records(key):
    outcome_of = statuses((0.9, 0.2, 0.5), key, errors=0.05)
    in_order = Stopping(PLAN, (record(item, outcome_of[item.key]) for item in PLAN.items))
    other = Stopping(PLAN)
    for place in seeding.generator("statistics", "test order", key).permutation(len(PLAN.items)):
        item = PLAN.items[place]
        other.saw(record(item, outcome_of[item.key]))
        other.saw(record(item, outcome_of[item.key]))  # delivered twice
    assert other.decisions == in_order.decisions
    assert [other.not_needed(i) for i in PLAN.items] == [in_order.not_needed(i) for i in PLAN.items]


@pytest.mark.parametrize("ahead", [1, 7, 30])
@pytest.mark.parametrize("key", range(3))
def test_workers_that_are_ahead_change_no_decision(ahead, key):
    outcome_of = statuses((0.9, 0.2, 0.5), key, errors=0.03)
    alone, ran = run_in_turn(PLAN, outcome_of)
    together, waiting = Stopping(PLAN), []
    for item in PLAN.items:
        if not together.not_needed(item):
            waiting.append(item)
        if len(waiting) > ahead:  # the last that was begun is the first to end
            together.saw(record(waiting[-1], outcome_of[waiting.pop().key]))
    for item in waiting:
        together.saw(record(item, outcome_of[item.key]))
    assert together.decisions == alone.decisions
    assert [i.key for i in PLAN.items if not together.not_needed(i)] == [i.key for i in ran]
    assert together.saved <= alone.saved


@pytest.mark.parametrize("stopped_after", [0, 1, 20, 50])
def test_a_continued_run_decides_as_an_uninterrupted_one(stopped_after):
    outcome_of = statuses((0.9, 0.2, 0.5))
    whole, ran = run_in_turn(PLAN, outcome_of)
    before = ran[:stopped_after]
    continued = Stopping(PLAN, [record(item, outcome_of[item.key]) for item in before])
    done, after = {item.key for item in before}, []
    for item in PLAN.items:
        if item.key not in done and not continued.not_needed(item):
            continued.saw(record(item, outcome_of[item.key]))
            after.append(item)
    assert [*before, *after] == ran
    assert (continued.decisions, continued.saved) == (whole.decisions, whole.saved)


def test_a_pair_waits_for_all_earlier_ones():
    stopping = Stopping(PLAN)
    first, *rest = [item for item in PLAN.items if item.arm.policy != "random"]
    for item in rest:
        stopping.saw(record(item, "success" if item.arm.policy == "expert" else "failure"))
    assert stopping.decisions == ()
    stopping.saw(record(first, "success"))
    [decision] = stopping.decisions
    assert decision.better.policy == "expert"


def test_an_error_is_no_information_and_an_outcome_in_its_place_counts():
    outcome_of = statuses((1.0, 0.0, 0.0))
    broken = next(item for item in PLAN.items if item.arm.policy == "expert")
    sound = Stopping(PLAN, (record(item, outcome_of[item.key]) for item in PLAN.items))
    stopping = Stopping(PLAN, [record(broken, "error")])
    for item in PLAN.items:
        if item != broken:
            stopping.saw(record(item, outcome_of[item.key]))
    assert [d.pairs for d in stopping.decisions] == [d.pairs for d in sound.decisions]
    assert [d.episodes for d in stopping.decisions] == [d.episodes + 1 for d in sound.decisions]
    stopping.saw(record(broken, outcome_of[broken.key]))
    assert stopping.decisions == sound.decisions
    stopping.saw(record(broken, "error"))
    assert stopping.decisions == sound.decisions


def test_variations_and_suites_are_decided_apart_and_share_the_level():
    varied = plan(policies=("expert", "noop"), variations=("", "visual.lighting@2"), uncertified="run")
    stopping = Stopping(varied)
    assert stopping.level == pytest.approx(0.05 / 2)
    for item in varied.items:
        won = item.arm.policy == "expert" or item.episode.variation
        stopping.saw(record(item, "success" if won else "failure"))
    assert [(d.suite, d.variation) for d in stopping.decisions] == [("bridge_base", "")]


def test_false_decisions_are_as_rare_as_the_study_says():
    """Three equal arms, three comparisons, looked at after every episode."""
    sets, found = 150, 0
    for key in range(sets):
        stopping, _ = run_in_turn(PLAN, statuses((0.5, 0.5, 0.5), 1000 + key))
        found += bool(stopping.decisions)
    assert found <= 0.05 * sets + 4 * np.sqrt(0.05 * 0.95 * sets)


def test_records_of_another_plan_and_a_single_arm_are_refused():
    other = plan(episodes=21).items[-1]
    with pytest.raises(VlaBenchError, match="not in this plan of 120 items"):
        Stopping(PLAN, [record(other, "success")])
    with pytest.raises(PlanError, match="compares arms, and it has one"):
        plan(policies=("expert",))


def test_a_study_that_never_stops_is_the_study_that_it_was_before_there_was_a_choice():
    keys = {"suites": ("s",), "policies": ("a",), "precisions": ("fp32",)}
    plain = load_study(**keys, statistics={"confidence": 0.9})
    assert plain.hash == "17d2954ce70c38f110270a52a6eb700911e58d0b438f894cb94fc92e093f3f4f"
    assert plain.hash == load_study(**keys, statistics={"confidence": 0.9, "stop": "never"}).hash
    assert plain.hash != load_study(**keys, statistics={"confidence": 0.9, "stop": "decided"}).hash


def test_records_that_nothing_needed_are_surplus():
    outcome_of = statuses((1.0, 0.0, 0.0))
    stopping, ran = run_in_turn(plan(policies=POLICIES[:2]), outcome_of)
    assert stopping.surplus == ()
    late = next(item for item in stopping._items.values() if stopping.not_needed(item))
    stopping.saw(record(late, "failure"))
    assert stopping.surplus == (late.key,)
    assert len(stopping.decisions) == 1
    assert late.key not in {item.key for item in ran}
