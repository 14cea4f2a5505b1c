import pytest
from support.worlds import BRIDGE, environment, needs_libero, python, write_suite, write_task

from vla_bench import catalog

MAKE = """
import gymnasium
env = gymnasium.make({name!r}, cameras=())
observation, info = env.reset(seed=1)
print(env.unwrapped.task.id, "|", info["instruction"], "|", env.spec.id)
"""
LIST = """
import gymnasium, vla_bench.envs
print(*[name for name in gymnasium.registry if name.startswith("vla_bench/")])
"""


def test_gymnasium_makes_a_task_that_nobody_imported_before():
    task = catalog.task(BRIDGE)
    ended = python(MAKE.format(name=f"vla_bench.envs:{task.gym_id}"))
    assert ended.stdout.strip() == " | ".join((task.id, task.instruction, task.gym_id)), ended.stderr


def test_every_task_of_every_suite_is_registered_once_and_for_all(tmp_path):
    write_task(write_suite(tmp_path, "mine") / "a.bddl")
    write_suite(tmp_path, "empty")  # its tasks have no names yet
    ended = python(LIST, environment(**{catalog.TASKS_DIR_VARIABLE: tmp_path}))
    expected = [f"vla_bench/{s.name}.{stem}-v0" for s in catalog.suites().values() for stem in s.stems()]
    assert sorted(ended.stdout.split()) == sorted([*expected, "vla_bench/mine.a-v0"]), ended.stderr
    assert ended.stderr == "", "no warning, say of a task registered twice"


def test_without_liberos_data_its_tasks_are_registered_and_say_how_to_get_it(tmp_path):
    name = "vla_bench.envs:vla_bench/libero_goal.turn_on_the_stove-v0"
    env = environment(**{catalog.LIBERO_VARIABLE: None, "XDG_CACHE_HOME": tmp_path})
    ended = python(MAKE.format(name=name), env)
    assert "MissingDataError: LIBERO's data is not installed" in ended.stderr
    assert "run `vla-bench assets libero`" in ended.stderr


@needs_libero
def test_a_libero_task_is_made_by_its_name():
    task = catalog.task("libero_goal/7")
    ended = python(MAKE.format(name=f"vla_bench.envs:{task.gym_id}"))
    assert ended.stdout.split(" | ")[:2] == [task.id, "turn on the stove"], ended.stderr


@pytest.mark.parametrize("wrong", ["put_the_carot_on_the_plate-v0", "put_the_carrot_on_the_plate-v9"])
def test_an_unknown_id_is_refused_by_gymnasium(wrong):
    ended = python(MAKE.format(name=f"vla_bench.envs:vla_bench/bridge_base.{wrong}"))
    assert "gymnasium.error." in ended.stderr
