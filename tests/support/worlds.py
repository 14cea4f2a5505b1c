"""Tasks, simulations and command lines that tests share."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla_bench import catalog
from vla_bench.bddl import read_problem
from vla_bench.errors import MissingDataError
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Budget, Task

ROOT = Path(__file__).parents[2]
BRIDGE = "bridge_base/put_the_carrot_on_the_plate"

# A task without random places and assets, to be varied: `{init}` and `{goal}` are literals.
TABLETOP = """\
(define (problem tabletop)
  (:language put the carrot on the plate)
  (:regions
    (left_region (:target main_table) (:ranges ((-0.16 0.06 0.02 0.24))) (:yaw_rotation ((-1.2 1.2))))
    (right_region (:target main_table) (:ranges ((-0.14 -0.24 0.04 -0.08))))
  )
  (:fixtures main_table - table)
  (:objects carrot_1 - carrot  plate_1 - dinner_plate)
  (:obj_of_interest carrot_1 plate_1)
  (:init {init})
  (:goal (And {goal}))
)
"""
APART = "(On plate_1 main_table_right_region) (On carrot_1 main_table_left_region)"
STACKED = "(On plate_1 main_table_right_region) (On carrot_1 plate_1)"
SUITE = """\
[{name}]
folder = "{name}"
budget = {budget}
tick_s = 0.02
policy_period_s = 0.2
settle_steps = 2
success = {{ hold_s = 0.4, open_gripper = true }}
observation_px = [32, 32]
cameras = ["agentview"]
{more}
"""


def libero_is_here() -> bool:
    """Whether LIBERO's data folder is."""
    try:
        catalog.libero_root()
    except MissingDataError:
        return False
    return True


needs_libero = pytest.mark.skipif(
    not libero_is_here(), reason=f"LIBERO's data is not here: set {catalog.LIBERO_VARIABLE} to its folder"
)


def libero_sample() -> list:
    """Parameters: the first LIBERO task of each problem type, and of each suite."""
    if not libero_is_here():
        return [pytest.param("libero", marks=needs_libero)]
    chosen: dict[str, str] = {}
    for name, suite in catalog.suites().items():
        if suite.needs_libero:
            for stem in suite.stems():
                task = suite.task(stem)
                chosen.setdefault(read_problem(task.bddl).name, task.id)
                chosen.setdefault(name, task.id)
    return list(dict.fromkeys(chosen.values()))


@functools.lru_cache(maxsize=3)
def simulation(task_id: str, backend: str = "numba") -> MujocoSimulation:
    """A simulation that tests share: every test begins with a reset, which must make all else forgotten."""
    return MujocoSimulation(catalog.task(task_id), backend=backend)


def write_task(
    path: Path, *, init: str = APART, goal: str = "(On carrot_1 plate_1)", text: str = TABLETOP
) -> Path:
    """Write a tabletop task's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(init=init, goal=goal))
    return path


def tabletop(folder: Path, **changes: str) -> Task:
    """The built-in task with another file, written into `folder`; takes what `write_task` takes."""
    return dataclasses.replace(catalog.task(BRIDGE), source=write_task(folder / "own.bddl", **changes))


def with_steps(task: Task, steps: int) -> Task:
    """The task with another budget."""
    return dataclasses.replace(task, budget=Budget(steps=steps))


def write_suite(folder: Path, name: str = "mine", *, budget: str = "{ steps = 5 }", more: str = "") -> Path:
    """Write a suite's TOML file beside its (still empty) folder of tasks; returns that folder."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(SUITE.format(name=name, budget=budget, more=more))
    return folder / name


def write_policy(folder: Path, name: str, code: str, **card: object) -> None:
    """Write a policy: the module `<name>_policy` with a class `Made`, and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_policy.py").write_text(code)
    keys = {"title": name, "family": "own", "adapter": f"{name}_policy:Made", "licence": "MIT", "blind": True}
    lines = [f"{key} = {_toml(value)}" for key, value in {**keys, **card}.items()]
    (folder / f"{name}.toml").write_text("\n".join(lines) + "\n")


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def environment(*python_path: Path, **variables: object) -> dict[str, str]:
    """The environment of a subprocess that imports this checkout; None unsets a variable."""
    path = [str(folder) for folder in (*python_path, ROOT)]
    merged = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **variables}
    return {name: str(value) for name, value in merged.items() if value is not None}


def command_line(*arguments: object) -> list[str]:
    """`vla-bench …` as a command of this interpreter."""
    return [sys.executable, "-m", "vla_bench.cli", *map(str, arguments)]


def vla_bench(
    *arguments: object, env: dict[str, str] | None = None, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run `vla-bench …` to its end."""
    return subprocess.run(
        command_line(*arguments), env=env or environment(), capture_output=True, text=True, timeout=300,
        check=False, **settings,
    )  # fmt: skip


def python(
    code: str, env: dict[str, str] | None = None, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run Python code in another process."""
    return subprocess.run(
        [sys.executable, "-c", code], env=env or environment(), capture_output=True, text=True, timeout=300,
        check=False, **settings,
    )  # fmt: skip
