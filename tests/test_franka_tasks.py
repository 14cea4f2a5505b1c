"""The files of the suites `franka` and `franka_15hz`: what they say about themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from support.mirrored import check_departures, published_numbers

from vla_bench import catalog
from vla_bench.bddl import IN_HAND, LET_GO, read_problem
from vla_bench.errors import DataError, UnknownNameError
from vla_bench.learn import held_out
from vla_bench.listing import tasks as listed

SUITE, FAST = catalog.suite("franka"), catalog.suite("franka_15hz")
TASKS = [SUITE.task(stem) for stem in SUITE.stems()]


def test_narrow_and_diverse_tasks_are_told_apart_each_in_and_out_of_distribution():
    rows = Counter((row["group"], row["split"]) for row in listed(["franka"], []))
    assert rows.keys() == {(group, split) for group in ("narrow", "diverse") for split in ("id", "ood")}
    assert rows["narrow", "id"] == rows["narrow", "ood"] == 3


def test_a_narrow_task_has_one_instruction_and_in_a_diverse_scene_the_words_decide():
    scenes: dict[str, set[str]] = {}
    for task in TASKS:
        problem = read_problem(task.bddl)
        assert bool(problem.scene) == (task.group == "diverse")
        scenes.setdefault(f"{task.split} {problem.scene or task.published}", set()).add(task.instruction)
    assert len(scenes) == 12
    assert all(len(said) == 1 for name, said in scenes.items() if "_id" in name or "_ood" in name)
    assert sum(len(said) for said in scenes.values()) == len(TASKS)


def test_tasks_of_a_scene_differ_in_words_and_goal_alone():
    problems: dict[str, list] = {}
    for task in TASKS:
        problem = read_problem(task.bddl)
        problems.setdefault(problem.scene, []).append(problem)
    for scene, own in problems.items():
        for same in ("name", "regions", "fixtures", "objects", "init", "published") * bool(scene):
            assert all(getattr(problem, same) == getattr(own[0], same) for problem in own), (scene, same)


def test_the_papers_rows_are_mirrored_and_add_up_to_the_means_that_it_prints():
    rows = published_numbers("franka")
    assert {task.published for task in TASKS} == set(rows)
    assert all(rows[task.published].axis == f"{task.group} {task.split}" for task in TASKS)
    trials = sum(row.n for row in rows.values())
    means = {
        p: sum(row.successes[p] for row in rows.values()) / trials for p in ("Diffusion Policy", "OpenVLA")
    }
    assert trials == 99
    assert [round(100 * mean, 1) for mean in means.values()] == [48.5, 67.2]


def test_the_same_files_run_at_two_frequencies_for_the_same_time():
    assert FAST.stems() == SUITE.stems()
    for slow, fast in zip(TASKS, (FAST.task(stem) for stem in FAST.stems()), strict=True):
        same = {name: getattr(slow, name) for name in (
            "suite", "budget", "substep_s", "tick_s", "policy_period_s", "settle_steps",
        )}  # fmt: skip
        assert replace(fast, **same) == slow, "all else is written once"
        assert 1 / slow.policy_period_s == 5.0
        assert 1 / fast.policy_period_s == pytest.approx(15.0, rel=0.005)
        seconds = [task.policy_period_s * (task.budget.steps or 0) for task in (slow, fast)]
        assert seconds[0] == pytest.approx(seconds[1], rel=0.01)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.stem)
def test_a_task_out_of_distribution_says_what_it_departs_from(task):
    check_departures(SUITE, task)
    asked = {literal.name for literal in read_problem(task.bddl).goal}
    assert task.success_open_gripper == (bool(asked & LET_GO) and not asked & IN_HAND)


def test_what_is_out_of_distribution_is_held_out_and_the_rest_is_not():
    ood = {
        f"{suite.name}/{task.stem}.bddl" for suite in (SUITE, FAST) for task in TASKS if task.split == "ood"
    }
    assert {name for name in held_out.files() if name.startswith("franka")} == {"franka.toml", *ood}


def test_only_what_is_in_distribution_may_be_trained_on(tmp_path):
    ids = [task.id for task in TASKS]
    held_out.check(tmp_path, [task.id for task in TASKS if task.split == "id"])
    with pytest.raises(DataError, match=r"shows franka/cover_the_orange, .*out of distribution"):
        held_out.check(tmp_path, ids)
    with pytest.raises(DataError, match="shows franka/of_an_older_catalog, out of distribution"):
        held_out.check(tmp_path, ["franka/of_an_older_catalog"])


ALIKE = """
[one]
parts = [{ folder = "a", split = "ood", group = "x" }]
budget = { steps = 1 }
tick_s = 0.02
policy_period_s = 0.2
cameras = ["agentview"]

[two]
like = "LIKE"
policy_period_s = 0.1
"""


def write(folder, monkeypatch, text):
    (folder / "a").mkdir()
    (folder / "a" / "t.bddl").write_text(TASKS[0].bddl.read_text())
    (folder / "mine.toml").write_text(text)
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(folder))


def test_a_suite_like_another_takes_what_it_leaves_out(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, ALIKE.replace("LIKE", "one"))
    one, two = (catalog.task(f"{name}/t") for name in ("one", "two"))
    assert (two.policy_period_s, two.tick_s, two.split, two.group) == (0.1, one.tick_s, "ood", "x")


def test_a_suite_is_like_one_of_its_file_that_stands_by_itself(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, ALIKE.replace("LIKE", "onne"))
    with pytest.raises(UnknownNameError, match=r"unknown suite to be like 'onne'; did you mean 'one'"):
        catalog.suites()


def test_parts_have_their_own_split(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, ALIKE.replace("LIKE", "one") + 'split = "ood"\n')
    with pytest.raises(DataError, match="each of its parts has a split; the suite has none"):
        catalog.suites()
