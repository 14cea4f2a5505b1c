"""The files of the built-in suites: what they say about themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from vla_bench import catalog
from vla_bench.bddl import IN_HAND, read_problem
from vla_bench.errors import DataError
from vla_bench.types import TASK_AXES

BASE, BRIDGE = catalog.suite("bridge_base"), catalog.suite("bridge")
TASKS = [suite.task(stem) for suite in (BASE, BRIDGE) for stem in suite.stems()]
PUBLISHED = {"visual": 5, "motion": 2, "physical": 3, "semantic": 4, "language": 3}


def test_the_published_tasks_are_mirrored_axis_by_axis():
    rows = {(task.axis, task.published) for task in TASKS if task.suite == "bridge"}
    assert Counter(axis for axis, _ in rows) == PUBLISHED
    assert all(published for _, published in rows)


def test_a_language_task_is_a_pair_and_every_other_task_one_file():
    files = Counter(task.published for task in TASKS if task.suite == "bridge")
    axis = {task.published: task.axis for task in TASKS}
    assert all(count == (2 if axis[name] == "language" else 1) for name, count in files.items())


def test_tasks_of_a_pair_differ_in_words_and_goal_alone():
    by_scene: dict[str, list] = {}
    for task in TASKS:
        problem = read_problem(task.bddl)
        if problem.scene:
            by_scene.setdefault(f"{task.suite}/{problem.scene}", []).append(problem)
    assert {len(problems) for problems in by_scene.values()} >= {2}
    for problems in by_scene.values():
        for same in ("name", "regions", "fixtures", "objects", "init", "moving", "published"):
            assert all(getattr(problem, same) == getattr(problems[0], same) for problem in problems), same
        assert len({problem.language for problem in problems}) == len(problems)
        assert len({problem.goal for problem in problems}) == len(problems)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_a_task_out_of_distribution_says_what_it_departs_from(task):
    departure = read_problem(task.bddl).departure
    if task.split == "id":
        assert departure is None
        assert task.axis is None
        return
    assert task.axis in TASK_AXES
    assert departure is not None
    assert departure.base in BASE.stems()
    assert all(departure.changes.values())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_a_task_has_partial_credit_and_the_published_budget(task):
    problem = read_problem(task.bddl)
    assert problem.stages
    assert task.budget.steps == 60
    assert task.budget.time_s == 90.0
    assert task.success_hold_s == 0.4
    assert task.success_open_gripper != any(literal.name in IN_HAND for literal in problem.goal)
    assert task.policy_period_s == 0.2
    assert set(problem.objects_of_interest) <= {*problem.objects, *problem.fixtures}


def test_the_base_has_enough_tasks_instructions_and_moving_targets():
    base = [task for task in TASKS if task.suite == "bridge_base"]
    assert len(base) >= 10
    assert len({task.instruction for task in base}) == len(base)
    assert sum(bool(read_problem(task.bddl).moving) for task in base) >= 2


def test_listing_an_axis_gives_its_tasks():
    command = ("list", "tasks", "--suite", "bridge", "--task-axis", "semantic", "--json")
    done = subprocess.run([sys.executable, "-m", "vla_bench.cli", *command], capture_output=True, text=True)
    rows = json.loads(done.stdout)
    assert [row["axis"] for row in rows] == ["semantic"] * PUBLISHED["semantic"]
    assert [catalog.task(row["task"]).index for row in rows] == [row["index"] for row in rows]


SUITE = """
[mine]
folders = {{ visual = "a", motion = "b" }}
budget = {{ steps = 1 }}
tick_s = 0.02
policy_period_s = 0.2
cameras = ["agentview"]
{extra}
"""


def _suite(
    folder: Path, monkeypatch: pytest.MonkeyPatch, extra: str = "", second: str = "b"
) -> catalog.Suite:
    for name, stem in (("a", "a"), ("b", second)):
        (folder / name).mkdir()
        (folder / name / f"{stem}.bddl").write_text(TASKS[0].bddl.read_text())
    (folder / "mine.toml").write_text(SUITE.format(extra=extra))
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(folder))
    return catalog.suite("mine")


def test_the_axis_of_a_task_is_that_of_its_folder(tmp_path, monkeypatch):
    suite = _suite(tmp_path, monkeypatch)
    assert suite.axes() == {"a": "visual", "b": "motion"}
    assert suite.task("b").axis == "motion"
    assert suite.task("b").index == 1


def test_a_name_in_two_folders_of_a_suite_is_refused(tmp_path, monkeypatch):
    suite = _suite(tmp_path, monkeypatch, second="a")
    with pytest.raises(DataError, match=r"mine/a is in two of the suite's folders"):
        suite.stems()


def test_a_suite_has_one_folder_or_folders_by_axis(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"either folder or folders"):
        _suite(tmp_path, monkeypatch, extra='folder = "a"')


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("(:stages (grasped))", r":2: expected a stage such as"),
        ("(:stages (grasped (Hold eggplant_1)))", r":2: unknown predicate 'Hold'.*held"),
        ("(:stages (grasped (Held eggplent_1)))", r":2: held.*nothing is called 'eggplent_1'.*eggplant_1"),
        ("(:moving (a_slide (:sped 1)))", r":2: 'a_slide' cannot use ':sped'.*:speed"),
        ("(:moving (a_slide (:range 0 1)))", r":2: 'a_slide' needs a positive"),
        ("(:moving (a_slide (:speed 1) (:range 1 0)))", r":2: 'a_slide': range \(1.0, 0.0\) is empty"),
        ("(:moving (a_slide (:speed fast)))", r":2: joint 'a_slide': expected 1 finite numbers"),
        ("(:scene one two)", r":2: \(:scene …\) takes one name"),
        ("(:departs_from lift_the_carrot)", r":2: expected \(:departs_from task"),
        ("(:departs_from lift_the_carrot (size))", r":2: expected \(what how in words\)"),
    ],
)
def test_a_section_that_cannot_be_read_is_named_with_its_line(tmp_path, written, said):
    text = (BASE.task("put_the_eggplant_in_the_pot")).bddl.read_text().splitlines()
    kept = [line for line in text if not line.startswith(("  (:scene", "  (:language"))]
    stages = next(i for i, line in enumerate(kept) if line.startswith("  (:stages"))
    kept = [kept[0], written, *kept[1:stages], ")"]
    path = tmp_path / "broken.bddl"
    path.write_text("\n".join(kept))
    with pytest.raises(DataError, match=said):
        read_problem(path)
