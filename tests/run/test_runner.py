import re
import sys

import pytest
from support.runs import plan_of, run, timeless
from support.worlds import BRIDGE, write_policy, write_suite, write_task

from vla_bench import catalog
from vla_bench.errors import ConventionError, DataError, MissingCapabilityError, VlaBenchError
from vla_bench.run.conventions import policy_seed
from vla_bench.run.records import read_run
from vla_bench.types import Episode

SMALL = {"tasks": (BRIDGE,), "policies": ("noop", "random"), "episodes": 3, "budget": {"steps": 2}}
POLICY = """
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec({spec})
    episodes = 0
    def __init__(self, card, precision):
        pass
    def reset(self, instruction, seed):
        Made.episodes += 1
        self.calls = 0
    def act(self, observations):
        self.calls += 1
        {act}
        return ActionChunk({actions})
"""


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """Write a policy whose class does what the arguments say."""
    folder = tmp_path / "policies"
    folder.mkdir()
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(folder))
    monkeypatch.syspath_prepend(str(folder))

    def writing(name, *, spec="", act="pass", actions="np.zeros((1, 7))", **card):
        write_policy(folder, name, POLICY.format(spec=spec, act=act, actions=actions), **card)
        monkeypatch.delitem(sys.modules, f"{name}_policy", raising=False)

    return writing


def test_every_item_is_run_once_in_the_plans_order(tmp_path):
    plan, told = plan_of(**SMALL), []
    records = run(plan, tmp_path / "run", told.append)
    assert [record.key for record in told] == [item.key for item in plan.items]
    assert len(records) == len(plan.items) == 6
    assert {record.key: (record.episode, record.arm) for record in records} == {
        item.key: (item.episode, item.arm) for item in plan.items
    }
    assert {(r.status, r.cause, r.steps, r.budget) for r in records} == {("failure", "horizon", 2, "steps:2")}
    assert run(plan, tmp_path / "run", told.append) == records, "nothing is left to do"
    assert len(told) == 6


def test_two_runs_differ_in_nothing_but_the_clock(tmp_path):
    plan = plan_of(**SMALL)
    first, second = (timeless(run(plan, tmp_path / name)) for name in "ab")
    assert first == second
    assert len({record["path_length_m"] is None or record["path_length_m"] for record in first}) >= 1


def test_a_run_that_was_stopped_and_continued_equals_an_undisturbed_one(tmp_path):
    plan = plan_of(**SMALL)
    undisturbed = timeless(run(plan, tmp_path / "whole"))
    for stop_after in (1, 3):

        def stop(record, left=[stop_after]):  # noqa: B006
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "parts", stop)
    assert len(read_run(tmp_path / "parts").records) == 4
    assert timeless(run(plan, tmp_path / "parts")) == undisturbed
    assert len(read_run(tmp_path / "parts").header.sessions) == 3
    assert read_run(tmp_path / "parts").superseded == 0, "every episode exactly once"


def test_all_arms_get_the_same_seed_for_an_episode():
    seeds = {policy_seed(Episode(BRIDGE, seed=k)) for k in range(20)}
    assert len(seeds) == 20
    assert policy_seed(Episode(BRIDGE, seed=3)) == policy_seed(Episode(BRIDGE, seed=3)) < 2**63


def test_a_policy_that_raises_is_recorded_and_the_run_goes_on(tmp_path, policy):
    policy("fragile", act="if Made.episodes == 3 and self.calls == 2: raise OSError('gone')")
    plan = plan_of(**{**SMALL, "policies": ("noop", "fragile")})
    records = run(plan, tmp_path / "run")
    assert [record.status for record in records if record.policy == "noop"] == ["failure"] * 3
    broken = [record for record in records if record.status == "error"]
    assert [(r.policy, r.seed, r.steps, r.error.type, r.error.message) for r in broken] == [
        ("fragile", 1, 1, "OSError", "gone")
    ]
    assert "fragile_policy.py" in broken[0].error.traceback
    again = run(plan, tmp_path / "run")
    assert {record.status for record in again} == {"failure"}, "an error is run again"
    assert len(again) == 6


MISFITS = {
    "eight numbers": (
        "",
        "np.zeros((1, 8))",
        f"policy 'misfit': actions have shape (1, 8); the policy declares 1 at a time and {BRIDGE} takes 7 "
        "numbers each, so shape (1, 7) is expected",
    ),
    "one dimension": ("", "np.zeros(7)", "actions have shape (7,); "),
    "chunk": ("chunk_length=4", "np.zeros((3, 7))", "actions have shape (3, 7); the policy declares 4 "),
    "declared": ("action_size=8", "np.zeros((1, 8))", "its actions have shape (T, 8), the task takes (T, 7)"),
    "camera": ("cameras=('wrist',)", "", "it needs cameras ['wrist'], the task has ['agentview', "),
    "proprioception": ("proprio=('force',)", "", "it needs proprioception ['force'], the task has ['robot0"),
    "several": (
        "action_size=8, cameras=('wrist',), proprio=('force',)",
        "",
        f"policy 'misfit' does not fit {BRIDGE}: ",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_found_before_anything_runs(tmp_path, policy, case):
    spec, actions, message = MISFITS[case]
    card = {"chunk_predicted": 4} if "chunk" in spec else {}
    policy("misfit", spec=spec, actions=actions or "np.zeros((1, 7))", **card, blind=False)
    with pytest.raises(ConventionError) as refused:
        run(plan_of(**{**SMALL, "policies": ("noop", "misfit")}), tmp_path / "run")
    assert message in str(refused.value)
    if case == "several":
        assert all(word in str(refused.value) for word in ("(T, 8)", "'wrist'", "'force'")), "all at once"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("spec", "card", "message"),
    [
        ("chunk_length=8", {"chunk_predicted": 4}, "chunk_predicted is 4, the policy declares 8"),
        ("privileged=True", {}, "privileged is False, the policy declares True"),
        ("cameras=('agentview',)", {"blind": True}, "blind is True, the policy declares False"),
        ("action_convention='joints'", {}, "action_convention is delta_pose, the policy declares joints"),
    ],
)
def test_a_policy_that_is_not_what_its_card_says_is_refused(tmp_path, policy, spec, card, message):
    policy("misfit", spec=spec, **card)
    with pytest.raises(ConventionError, match=rf"misfit\.toml: {message}$"):
        run(plan_of(**{**SMALL, "policies": ("misfit",)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_actions_of_another_convention_are_refused(tmp_path, policy):
    policy("misfit", spec="action_convention='joints'", action_convention="joints")
    with pytest.raises(ConventionError, match="its actions are 'joints', the task takes 'delta_pose'"):
        run(plan_of(**{**SMALL, "policies": ("misfit",)}), tmp_path / "run")


def test_a_scene_that_cannot_be_built_is_an_error_of_its_episodes_alone(tmp_path, monkeypatch):
    folder = write_suite(tmp_path / "tasks", more='tasks = ["a", "b", "c"]')
    for stem in "abc":
        write_task(folder / f"{stem}.bddl", goal="(Open plate_1)" if stem == "b" else "(On carrot_1 plate_1)")
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path / "tasks"))
    plan = plan_of(**{**SMALL, "tasks": (), "suites": ("mine",), "policies": ("noop",), "episodes": 2})
    records = run(plan, tmp_path / "run")
    assert [(record.stem, record.status) for record in records] == [
        (stem, "error" if stem == "b" else "failure") for stem in "aabbcc"
    ]
    error = records[2].error
    assert error.type == "DataError"
    assert re.search(r"b\.bddl:\d+: cannot evaluate open\(plate_1\)", error.message)
    write_task(folder / "b.bddl")
    assert {record.status for record in run(plan, tmp_path / "run")} == {"failure"}, "mended and run again"


def test_a_first_scene_that_cannot_be_built_stops_the_run_before_it_begins(tmp_path, monkeypatch):
    write_task(write_suite(tmp_path / "tasks") / "a.bddl", goal="(Open plate_1)")
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path / "tasks"))
    with pytest.raises(DataError, match="cannot evaluate open"):
        run(plan_of(suites=("mine",), policies=("noop",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_precision_or_package_that_is_missing_is_said_before_anything_runs(tmp_path, policy):
    policy("needy", act="pass")
    (tmp_path / "policies/needy_policy.py").write_text("import a_model_that_is_not_installed")
    with pytest.raises(MissingCapabilityError, match="policy 'needy' needs the package 'a_model_that_is_not"):
        run(plan_of(**{**SMALL, "policies": ("needy",)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


LACKS = """
import numpy as np
from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk, PrecisionReport

class Made:
    spec = PolicySpec()
    def __init__(self, card, precision):
        if precision == "bnb_int8":
            raise MissingCapabilityError("this machine has no eight bits")
        self.precision_report = PrecisionReport(precision, "own 1.0", "cpu", "bfloat16", parameters=7)
    def reset(self, instruction, seed):
        pass
    def act(self, observations):
        return ActionChunk(np.zeros((1, 7)))
"""


def test_what_a_machine_lacks_is_an_error_of_its_arm_alone(tmp_path, policy):
    precisions = ("bf16", "bnb_int8")
    policy("own", precisions=list(precisions))
    (tmp_path / "policies/own_policy.py").write_text(LACKS)
    plan = plan_of(**{**SMALL, "policies": ("own",), "precisions": precisions, "episodes": 2})
    records = run(plan, tmp_path / "run")
    assert [(r.seed, r.precision, r.status) for r in records] == [
        (0, "bf16", "failure"), (0, "bnb_int8", "error"), (1, "bf16", "failure"), (1, "bnb_int8", "error"),
    ]  # fmt: skip
    errors = [record.error for record in records if record.error is not None]
    assert {(e.type, e.message) for e in errors} == {
        ("MissingCapabilityError", "this machine has no eight bits")
    }
    assert len({e.traceback for e in errors}) == 1
    (loaded,) = read_run(tmp_path / "run").header.sessions[-1].loaded
    assert (loaded.policy, loaded.report.precision, loaded.report.parameters) == ("own", "bf16", 7)
    with pytest.raises(MissingCapabilityError, match="no eight bits"):
        run(plan_of(**{**SMALL, "policies": ("own",), "precisions": ("bnb_int8",)}), tmp_path / "none")
    assert not (tmp_path / "none").exists(), "nothing could have been run"


def test_a_policy_that_does_not_fit_stops_the_run_whatever_else_is_lacking(tmp_path, policy):
    policy("needy", act="pass")
    (tmp_path / "policies/needy_policy.py").write_text("import a_model_that_is_not_installed")
    policy("misfit", spec="action_size=8", actions="np.zeros((1, 8))")
    with pytest.raises(ConventionError, match=r"the task takes \(T, 7\)"):
        run(plan_of(**{**SMALL, "policies": ("needy", "noop", "misfit")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_folder_of_another_study_is_refused_and_left_as_it_is(tmp_path):
    run(plan_of(**{**SMALL, "episodes": 1}), tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(VlaBenchError, match=r"holds results of another study .* nothing was changed"):
        run(plan_of(**{**SMALL, "episodes": 2}), tmp_path / "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_records_carry_what_the_episode_was(tmp_path):
    keys = {**SMALL, "policies": ("noop",), "episodes": 1, "first_episode": 5}
    (record,) = run(plan_of(**keys), tmp_path / "run")
    task = catalog.task(BRIDGE)
    assert (record.task_id, record.suite, record.stem) == (task.id, task.suite, task.stem)
    assert (record.task_index, record.seed, record.init_state, record.variation) == (task.index, 5, None, "")
    assert (record.instruction, record.split, record.task_axis) == (task.instruction, "id", None)
    assert (record.fingerprint, record.worker, record.video) == ("f", "0", None)
    assert (record.ticks, record.simulated_s) == (20, pytest.approx(0.4))


def test_a_policy_made_for_another_frequency_is_refused_before_anything_is_recorded(tmp_path, policy):
    policy("slow", spec="control_hz=1.0")
    with pytest.raises(ConventionError, match=r"made for 1 Hz .*the task takes 5 a second"):
        run(plan_of(**{**SMALL, "policies": ("slow",)}), tmp_path / "r")
    assert not (tmp_path / "r").exists()
