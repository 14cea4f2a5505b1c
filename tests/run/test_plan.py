import dataclasses
import json

import pytest

from vla_bench import catalog
from vla_bench.run.plan import PlanError, make_plan
from vla_bench.run.study import load_study
from vla_bench.types import Arm, Budget, Episode

SUITE = """
[{name}]
folder = "bddl"
budget = {budget}
tick_s = 0.02
policy_period_s = 0.2
cameras = ["front"]
task_axis = "{axis}"
tasks = {tasks}
"""

CARD = """
title = "Stands still, four actions at a time"
family = "scripted"
adapter = "vla_bench.policy.scripted.simple:Noop"
licence = "MIT"
precisions = ["fp32", "bf16"]
chunk_predicted = 4
"""


@pytest.fixture(autouse=True)
def without_libero_data(tmp_path, monkeypatch):
    """Plans are made of the catalog alone."""
    monkeypatch.delenv(catalog.LIBERO_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    """Two suites sampled by seed, and two policies."""
    tasks, policies = tmp_path / "tasks", tmp_path / "policies"
    tasks.mkdir()
    policies.mkdir()
    write_suites(tasks)
    for name in ("first_policy", "second_policy"):
        (policies / f"{name}.toml").write_text(CARD)
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tasks))
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(policies))
    catalog._suites.cache_clear()
    yield tasks
    catalog._suites.cache_clear()


def write_suites(folder, budget="{ steps = 60 }"):
    seen = SUITE.format(name="seen", budget=budget, axis="visual", tasks='["b", "a"]')
    said = SUITE.format(name="said", budget=budget, axis="language", tasks='["c"]')
    (folder / "own.toml").write_text(seen + said)
    catalog._suites.cache_clear()


def plan_of(**keys):
    given = {"policies": ("first_policy", "second_policy"), "uncertified": "run"}
    return make_plan(load_study(**{**given, **keys}))


def test_all_arms_of_an_episode_are_adjacent_and_episodes_are_in_order():
    plan = plan_of(suites=("seen",), episodes=2)
    assert [(i.episode.task_id, i.episode.seed, i.arm.policy) for i in plan.items] == [
        (task, seed, policy)
        for task in ("seen/b", "seen/a")
        for seed in (0, 1)
        for policy in ("first_policy", "second_policy")
    ]


def test_libero_episodes_are_initial_states_and_need_no_data():
    plan = plan_of(suites=("libero_goal",), episodes=2, first_episode=48)
    assert {(i.episode.seed, i.episode.init_state) for i in plan.items} == {(None, 48), (None, 49)}
    assert len(plan.items) == 10 * 2 * 2
    assert {i.budget for i in plan.items} == {Budget(steps=300)}


def test_the_suite_says_how_many_episodes_unless_the_study_does():
    assert len(plan_of(suites=("libero_goal",)).items) == 10 * 50 * 2


def test_more_episodes_than_initial_states_are_refused():
    with pytest.raises(PlanError, match=r"50 initial states a task.*last episode is 49.*0 to 50"):
        plan_of(suites=("libero_goal",), episodes=51)
    with pytest.raises(PlanError, match="episodes 49 to 50"):
        plan_of(suites=("libero_goal",), episodes=2, first_episode=49)
    assert len(plan_of(suites=("said",), episodes=51).items) == 51 * 2, "seeds never run out"


def test_episodes_beyond_the_initial_states_are_drawn_from_seeds_where_that_is_asked_for():
    with pytest.raises(PlanError, match="--resample"):
        plan_of(suites=("libero_goal",), episodes=52)
    plan = plan_of(tasks=("libero_goal/0",), policies=("first_policy",), episodes=52, resample=True)
    starts = [(item.episode.init_state, item.episode.seed) for item in plan.items]
    assert starts == [*((k, None) for k in range(50)), (None, 50), (None, 51)]
    assert len({item.episode.key for item in plan.items}) == 52
    stored = plan_of(tasks=("libero_goal/0",), policies=("first_policy",), episodes=50)
    assert [item.key for item in plan.items[:50]] == [item.key for item in stored.items]


def test_a_crossed_table_must_be_of_what_is_run():
    table = {"reference": "bf16", "latencies": {"bf16": "zero", "fp32": "constant:300ms"}}

    def problem(**keys):
        with pytest.raises(PlanError) as caught:
            plan_of(suites=("seen",), policies=("first_policy",), crossed=table, **keys)
        return str(caught.value)

    plan = plan_of(
        suites=("seen",), policies=("first_policy",), crossed=table, latencies=("zero", "constant:300ms")
    )
    assert len({item.arm for item in plan.items}) == 4
    assert "crossed.latencies.fp32 = 'constant:300ms' is no latency of the study" in problem()
    assert "crossed.reference = 'bf16' is not among the precisions that are run: fp32" in problem(
        precisions=("fp32",), latencies=("zero", "constant:300ms")
    )


def test_suites_and_tasks_are_united():
    plan = plan_of(suites=("seen",), tasks=("seen/a", "said/c"), episodes=1)
    assert list(dict.fromkeys(i.episode.task_id for i in plan.items)) == ["seen/b", "seen/a", "said/c"]


def test_the_axis_filter_keeps_tasks_of_that_axis():
    plan = plan_of(suites=("seen", "said"), task_axis=("language",), episodes=1)
    assert {i.episode.task_id for i in plan.items} == {"said/c"}
    with pytest.raises(PlanError, match="none of its 3 tasks tests motion"):
        plan_of(suites=("seen", "said"), task_axis=("motion",))


def test_a_key_is_the_same_work_and_nothing_else(own_data):
    items = plan_of(suites=("seen",), episodes=3).items
    keys = {i.key for i in items}
    assert len(keys) == len(items)
    assert [i.key for i in plan_of(suites=("seen",), episodes=3).items] == [i.key for i in items]
    fewer = plan_of(tasks=("seen/a",), policies=("second_policy",), episodes=1, title="else")
    assert {i.key for i in fewer.items} < keys
    assert not keys & {i.key for i in plan_of(suites=("seen",), budget={"steps": 61}).items}
    for name in ("tick_s = 0.02", "policy_period_s = 0.2"):
        write_suites(own_data)
        path = own_data / "own.toml"
        path.write_text(path.read_text().replace(name, f"{name.split()[0]} = 0.1"))
        catalog._suites.cache_clear()
        assert not keys & {i.key for i in plan_of(suites=("seen",), episodes=3).items}


def test_a_plan_changes_when_its_suites_do(own_data):
    before = plan_of(suites=("seen",), episodes=1)
    write_suites(own_data, budget="{ steps = 61 }")
    after = plan_of(suites=("seen",), episodes=1)
    assert before.study.hash == after.study.hash
    assert before.hash != after.hash


def test_everything_wrong_is_said_at_once():
    with pytest.raises(PlanError) as caught:
        plan_of(
            suites=("sen", "seen"), tasks=("seen/aa", "libero_goal/999"),
            policies=("first_polcy", "first_policy"), precisions=("int4",), chunks=(5,),
            pacings=("real",), latencies=("zeero",), variations=("visual.light@1",),
        )  # fmt: skip
    wanted = (
        "unknown suite 'sen'; did you mean 'seen'",
        "unknown task 'seen/aa'; did you mean 'seen/a'",
        "unknown task 'libero_goal/999'",
        "unknown policy 'first_polcy'; did you mean 'first_policy'",
        "policy 'first_policy' runs at fp32, bf16, not at 'int4'",
        "policy 'first_policy' predicts 4 action(s) at a time, so 5 cannot be executed",
        "unknown pacing 'real'",
        "unknown latency source 'zeero'; did you mean 'zero'",
        "unknown factor 'visual.light'; did you mean 'visual.lighting'",
    )
    assert len(caught.value.problems) == len(wanted)
    for phrase in wanted:
        assert phrase in str(caught.value)


def test_an_empty_study_is_refused():
    with pytest.raises(PlanError) as caught:
        make_plan(load_study())
    assert caught.value.problems == ("it names no suite and no task", "it names no policy")


def test_the_summary_counts_what_the_plan_holds():
    plan = plan_of(suites=("seen", "said"), episodes=3)
    assert plan.summary() == [
        {"suite": "seen", "tasks": 2, "episodes": 6, "arms": 2, "items": 12},
        {"suite": "said", "tasks": 1, "episodes": 3, "arms": 2, "items": 6},
        {"suite": "total", "tasks": 3, "episodes": 9, "arms": 2, "items": 18},
    ]


def test_a_plan_prints_as_json():
    plan = plan_of(suites=("said",), episodes=1, budget={"time_s": 12.5})
    table = json.loads(json.dumps(plan.to_json()))
    assert (table["study_hash"], table["plan_hash"]) == (plan.study.hash, plan.hash)
    first = table["items"][0]
    assert Arm(**first["arm"]) == plan.items[0].arm
    assert Episode(**first["episode"]) == plan.items[0].episode
    assert (first["key"], first["budget"]) == (plan.items[0].key, "time:12.5")


def test_an_item_gives_its_task_under_its_budget(own_data):
    (own_data / "bddl").mkdir()
    (own_data / "bddl" / "c.bddl").write_text(
        "(define (problem P) (:language say it) (:fixtures t - table) (:objects) (:init)\n"
        "  (:goal (And (On t t))))"
    )
    item = plan_of(suites=("said",), episodes=1, budget={"steps": 7}).items[0]
    task = item.task()
    assert (task.id, task.budget) == ("said/c", Budget(steps=7))
    assert dataclasses.replace(task, budget=Budget(steps=60)) == catalog.task("said/c")


def test_variations_multiply_the_episodes_of_a_task_and_level_0_runs_once():
    plan = plan_of(
        tasks=("bridge_base/put_the_carrot_on_the_plate",), variations=("visual.*@0,2",), episodes=2
    )
    varied = list(dict.fromkeys(i.episode.variation for i in plan.items))
    assert varied[0] == ""
    assert all(v.startswith("visual.") and v.endswith("@2") for v in varied[1:])
    assert len(plan.items) == len(varied) * 2 * 2
    assert {row["variation"]: row["episodes"] for row in plan.variations()} == {
        v or "none": 2 for v in varied
    }
    again = plan_of(tasks=("bridge_base/put_the_carrot_on_the_plate",), variations=tuple(varied), episodes=2)
    assert [i.key for i in again.items] == [i.key for i in plan.items]


def test_equal_variations_are_equal_work():
    one, other = (
        plan_of(tasks=("bridge_base/lift_the_carrot",), variations=(text,), episodes=1)
        for text in ("physical.mass@2+visual.fog@1", "visual.fog@1+visual.blur@0+physical.mass@2")
    )
    assert one.hash == other.hash
    assert {i.episode.variation for i in one.items} == {"visual.fog@1+physical.mass@2"}


def test_what_a_pattern_names_and_does_not_apply_is_left_out_with_the_reason():
    plan = plan_of(suites=("bridge_base",), variations=("physical.*@1",), episodes=1)
    here = "bridge_base/put_the_carrot_on_the_plate"
    (omission,) = [omission for omission in plan.omitted if omission.task_id == here]
    assert omission.variation == "physical.joint_damping@1"
    assert omission.reason == (
        "physical.joint_damping: its goal (on(carrot_1, plate_1)) names nothing with a joint"
    )
    assert "physical.joint_damping@1" not in {i.episode.variation for i in plan.items}
    assert plan.to_json()["omitted"]


def test_what_is_written_out_must_apply():
    with pytest.raises(PlanError) as caught:
        plan_of(
            suites=("bridge_base",), episodes=1,
            variations=("physical.joint_damping@1", "visual.fog@7", "visual.fgo@1",
                        "visual.fog@1+visual.fog@2"),
        )  # fmt: skip
    text = str(caught.value)
    for wanted in (
        "physical.joint_damping does not apply to bridge_base/", "more of", "names nothing with a joint",
        "what applies: visual.", "levels go from 0, the unchanged task, to 5",
        "did you mean 'visual.fog'", "names visual.fog twice",
    ):  # fmt: skip
        assert wanted in text
    assert text.count("does not apply") == 1, "one sentence a factor, however many tasks"
