"""The files of the suite `google`: what they say about themselves."""

from __future__ import annotations

from collections import Counter

import pytest
from support.mirrored import check_departures, published_numbers

from vla_bench import catalog
from vla_bench.bddl import read_problem
from vla_bench.learn import held_out

SUITE = catalog.suite("google")
TASKS = [SUITE.task(stem) for stem in SUITE.stems()]


def test_the_papers_twelve_tasks_are_mirrored_five_in_distribution_and_seven_out():
    assert Counter(task.split for task in TASKS) == {"id": 5, "ood": 7}
    assert Counter(task.published for task in TASKS) == dict.fromkeys(published_numbers("google"), 1)


def test_the_split_of_a_task_is_that_under_which_its_numbers_were_published():
    rows = published_numbers("google")
    assert all(rows[task.published].axis == task.split for task in TASKS)


def test_the_numbers_add_up_to_the_means_that_the_paper_prints():
    rows = published_numbers("google").values()
    assert sum(row.n for row in rows) == 60
    means = {p: sum(row.successes[p] for row in rows) / 60 for p in ("RT-1-X", "Octo", "RT-2-X", "OpenVLA")}
    assert [round(100 * mean, 1) for mean in means.values()] == [33.3, 26.7, 78.3, 85.0]


def test_it_says_that_it_is_a_mirror():
    assert "not the Google robot, not SimplerEnv" in SUITE.title


def test_a_policy_is_asked_three_times_a_second():
    for task in TASKS:
        assert 1 / task.policy_period_s == pytest.approx(3.0, rel=0.005)
        assert task.tick_ns == pytest.approx(task.tick_s * 1e9, abs=1e-3), "whole nanoseconds"
        assert (task.budget.steps, task.success_hold_s) == (80, 0.4)


def test_what_is_put_down_must_be_let_go_of_and_what_is_pulled_open_need_not():
    lets_go = {task.stem for task in TASKS if task.success_open_gripper}
    assert lets_go == {task.stem for task in TASKS if task.stem.startswith(("move", "place"))}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.stem)
def test_a_task_out_of_distribution_says_what_it_departs_from(task):
    check_departures(SUITE, task)
    assert read_problem(task.bddl).stages, "partial credit"


def test_what_is_out_of_distribution_is_held_out_and_the_rest_is_not():
    held = {name for name in held_out.files() if name.startswith("google")}
    stems = {task.stem for task in TASKS if task.split == "ood"}
    assert held == {"google.toml", *(f"google/{stem}.bddl" for stem in stems)}
