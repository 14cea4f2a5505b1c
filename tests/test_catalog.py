import dataclasses
import re

import pytest
from support.worlds import SUITE, needs_libero, write_suite, write_task

from vla_bench import catalog
from vla_bench.bddl import read_problem
from vla_bench.errors import DataError, MissingDataError, UnknownNameError, VlaBenchError
from vla_bench.types import Budget

LIBERO = {"libero_spatial": 10, "libero_object": 10, "libero_goal": 10, "libero_10": 10, "libero_90": 90}
HORIZONS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
# What Gymnasium takes: namespace/name-version.
GYM_ID = re.compile(r"[\w:-]+/[\w:.-]+-v\d+")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A further folder of suites."""
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def without_libero(tmp_path, monkeypatch):
    monkeypatch.delenv(catalog.LIBERO_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def every_task():
    """(suite, stem) of everything that can be listed."""
    return [(suite, stem) for suite in catalog.suites().values() for stem in suite.stems()]


def test_ids_are_unique_and_what_gymnasium_takes():
    ids = [f"{suite.name}/{stem}" for suite, stem in every_task()]
    assert len(set(ids)) == len(ids) >= 131
    gym_ids = [f"vla_bench/{suite.name}.{stem}-v0" for suite, stem in every_task()]
    assert len(set(gym_ids)) == len(ids)
    assert all(map(GYM_ID.fullmatch, gym_ids))


@pytest.mark.parametrize(
    "name", [s.name for s in catalog.suites().values() if not s.needs_libero and s.engine is None]
)
def test_every_built_in_task_is_its_file(name):
    check_files_of(catalog.suite(name))


@needs_libero
@pytest.mark.parametrize("name", LIBERO)
def test_every_libero_task_is_its_file(name):
    check_files_of(catalog.suite(name))


def check_files_of(suite):
    """Every file is a task, every task a file; ids, names and lengths agree."""
    files = {path.stem for folder in suite.places for path in folder.glob("*.bddl")}
    assert files == set(suite.stems())
    for index, stem in enumerate(suite.stems()):
        task = catalog.task(f"{suite.name}/{stem}")
        assert task == catalog.task(f"{suite.name}/{index}"), "an alias is the same task"
        assert (task.id, task.bddl.stem, task.index) == (f"{suite.name}/{stem}", stem, index)
        assert task.gym_id == f"vla_bench/{suite.name}.{stem}-v0"
        assert task.instruction
        assert task.instruction == task.instruction.strip()
        assert task.ticks_per_step * task.tick_s == pytest.approx(task.policy_period_s, abs=1e-12)
        assert task.substeps_per_tick * task.substep_s == pytest.approx(task.tick_s, abs=1e-12)
        assert read_problem(task.bddl).goal


def test_liberos_suites_are_the_published_ones(without_libero):
    suites = catalog.suites()
    assert {name: len(suites[name].stems()) for name in LIBERO} == LIBERO
    assert {name: suites[name].budget.steps for name in LIBERO} == HORIZONS
    for name in LIBERO:
        suite = suites[name]
        assert (suite.tick_s, suite.policy_period_s, suite.settle_steps, suite.episodes) == (
            0.05,
            0.05,
            10,
            50,
        )
        assert suite.observation_px == (256, 256)
        assert suite.cameras == ("agentview", "robot0_eye_in_hand")


@needs_libero
def test_liberos_instruction_is_the_file_name_without_its_scene():
    stem = "LIVING_ROOM_SCENE2_put_both_the_alphabet_soup_and_the_tomato_sauce_in_the_basket"
    task = catalog.task(f"libero_10/{stem}")
    assert task.instruction == "put both the alphabet soup and the tomato sauce in the basket"
    for index in range(10):
        assert catalog.task(f"libero_goal/{index}").instruction == catalog.suite("libero_goal").stems()[
            index
        ].replace("_", " ")


@needs_libero
def test_every_libero_task_has_a_file_of_initial_states():
    tasks = [catalog.task(f"{suite.name}/{stem}") for suite, stem in every_task() if suite.needs_libero]
    assert all(task.init_states is not None and task.init_states.is_file() for task in tasks)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("libero_sptial/0", "unknown suite 'libero_sptial'; did you mean 'libero_spatial'"),
        (
            "bridge_base/put_carrot_on_plate",
            "unknown task .*did you mean 'bridge_base/put_the_carrot_on_the_plate'",
        ),
        ("bridge_base/9999", "unknown task 'bridge_base/9999'"),
        ("bridge_base/²", "unknown task 'bridge_base/²'"),
        ("bridge_base/-1", "unknown task 'bridge_base/-1'"),
        ("bridge_base/", "unknown task 'bridge_base/'"),
        ("bridge_base", "unknown task 'bridge_base'"),
        ("", "unknown suite ''"),
    ],
)
def test_unknown_names_get_the_nearest(name, message):
    with pytest.raises(UnknownNameError, match=message):
        catalog.task(name)


def test_a_suite_of_ones_own_is_a_file_beside_a_folder(own):
    folder = write_suite(
        own, budget="{ steps = 7, time_s = 3.0 }", more='task_axis = "visual"\nsplit = "ood"'
    )
    write_task(folder / "b.bddl")
    write_task(folder / "a.bddl")
    assert catalog.suite("mine").stems() == ("a", "b"), "sorted unless the file says otherwise"
    task = catalog.task("mine/1")
    assert (task.id, task.axis, task.split, task.budget) == ("mine/b", "visual", "ood", Budget(7, 3.0))
    assert (task.success_hold_s, task.success_open_gripper, task.cameras) == (0.4, True, ("agentview",))
    assert task.instruction == "put the carrot on the plate"
    assert "bridge_base" in catalog.suites(), "the shipped ones stay"


# What is replaced in a sound suite's file, by what, and the sentence after the file's name.
MISTAKES = {
    "unknown key": ("folder =", "foldr =", r": unknown key 'mine\.foldr'; did you mean 'folder'"),
    "nested key": ("steps = 5", "stesp = 5", r": unknown key 'mine\.budget\.stesp'; did you mean 'steps'"),
    "broken": ("tick_s = 0.02", "tick_s = ", ": is not valid TOML: .*line 4"),
    "type": ("tick_s = 0.02", 'tick_s = "fast"', r": mine\.tick_s = 'fast': input should be a valid number"),
    "missing": ("tick_s = 0.02\n", "", r": key 'mine\.tick_s' is missing"),
    "not a multiple": ("tick_s = 0.02", "tick_s = 0.03", r": mine: policy_period_s = 0\.2 is not a multiple"),
    "infinite": ("tick_s = 0.02", "tick_s = inf", r": mine\.tick_s = inf: input should be a finite number"),
    "zero": ("tick_s = 0.02", "tick_s = 0", r": mine\.tick_s = 0: input should be greater than 0"),
    "no budget": ("steps = 5", "", r": mine\.budget: a budget needs steps or time_s"),
    "negative budget": ("steps = 5", "steps = -5", r": mine\.budget\.steps = -5: input should be greater"),
    "no camera": ('["agentview"]', "[]", r": mine\.cameras = \[\]: "),
    "no picture": ("[32, 32]", "[0, 32]", r": mine\.observation_px\.0 = 0: input should be greater than 0"),
    "axis": ("[mine]", '[mine]\ntask_axis = "visul"', r": mine\.task_axis = 'visul': input should be"),
    "another name": ("[mine]", '[mine]\nname = "other"', r": key 'mine\.name' may not be set"),
    "impossible name": ("[mine]", '["mi ne"]', r": mi ne\.name = 'mi ne': "),
    "taken name": ("[mine]", "[bridge_base]", ": suite 'bridge_base' is already defined in"),
    "task twice": ("[mine]", '[mine]\ntasks = ["a", "b", "a"]', ": mine: tasks names a more than once"),
    "no tasks": ("[mine]", "[mine]\ntasks = []", ": mine: tasks is empty"),
    "impossible task": ("[mine]", '[mine]\ntasks = ["a b"]', r": mine\.tasks\.0 = 'a b': "),
    "number as task": ("[mine]", '[mine]\ntasks = ["12"]', r": mine\.tasks\.0 = '12': "),
    "outside a table": ("[mine]", "x = 3\n[mine]", ": x = 3 stands outside a suite's table"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_suite_names_file_key_and_what_was_expected(own, mistake):
    wrong, by, message = MISTAKES[mistake]
    sound = SUITE.format(name="mine", budget="{ steps = 5 }", more="")
    assert wrong in sound
    (own / "mine.toml").write_text(sound.replace(wrong, by))
    with pytest.raises(DataError, match=rf"(mine|bridge_base)\.toml{message}"):
        catalog.suites()


def test_a_task_file_whose_name_is_no_id_is_refused(own):
    write_task(write_suite(own) / "put the carrot.bddl")
    with pytest.raises(
        DataError, match=r"put the carrot\.bddl: the name of a task holds letters.* no spaces"
    ):
        catalog.task("mine/0")


def test_absent_files_and_folders_are_named(own, monkeypatch):
    folder = write_suite(own)
    write_suite(own, "listed", more='tasks = ["a"]')
    with pytest.raises(
        MissingDataError, match=rf"mine\.toml: suite 'mine' names {folder}, which holds no \.bddl"
    ):
        catalog.task("mine/0")
    with pytest.raises(MissingDataError, match=r"listed/a\.bddl: no such task file"):
        catalog.task("listed/a")
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(own / "none"))
    with pytest.raises(MissingDataError, match=r"VLA_BENCH_TASKS_DIR names .*none, which is not a folder"):
        catalog.suites()


def test_without_its_data_libero_can_be_listed_and_says_how_to_get_it(without_libero, tmp_path, monkeypatch):
    with pytest.raises(
        MissingDataError, match=r"LIBERO's data is not installed .*run `vla-bench assets libero`"
    ):
        catalog.task("libero_goal/0")
    monkeypatch.setenv(catalog.LIBERO_VARIABLE, str(tmp_path))
    with pytest.raises(MissingDataError, match=rf"VLA_BENCH_LIBERO={tmp_path} is not LIBERO's data folder"):
        catalog.libero_root()


def test_users_files_come_before_the_shipped_ones(tmp_path, monkeypatch):
    (tmp_path / "tasks" / "studies").mkdir(parents=True)
    (tmp_path / "policies").mkdir()
    mine = tmp_path / "tasks" / "studies" / "quick.toml", tmp_path / "policies" / "noop.toml"
    for path in mine:
        path.touch()
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path / "tasks"))
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path / "policies"))
    assert (catalog.studies()["quick"], catalog.policy_files()["noop"]) == mine
    assert "random" in catalog.policy_files()


def test_a_task_cannot_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        catalog.task("bridge_base/0").stem = "x"
    assert issubclass(UnknownNameError, VlaBenchError)
