import os
import re
import shutil

import mujoco
import numpy as np
import pytest
from support.worlds import (
    APART,
    BRIDGE,
    TABLETOP,
    libero_sample,
    needs_libero,
    simulation,
    write_task,
)

from vla_bench import catalog
from vla_bench.bddl import read_problem
from vla_bench.errors import DataError, MissingDataError, UnknownNameError, VlaBenchError
from vla_bench.sim.scene import build_scene
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import CameraView, Episode

OBJ = mujoco.mjtObj
COUNTS = {
    OBJ.mjOBJ_BODY: "nbody", OBJ.mjOBJ_GEOM: "ngeom", OBJ.mjOBJ_SITE: "nsite", OBJ.mjOBJ_JOINT: "njnt",
    OBJ.mjOBJ_CAMERA: "ncam", OBJ.mjOBJ_ACTUATOR: "nu",
}  # fmt: skip
PHYSICS = (
    "body_mass", "body_inertia", "body_pos", "body_quat", "jnt_range", "dof_damping", "cam_pos", "cam_quat",
)  # fmt: skip


def names(model):
    return {
        kind: [mujoco.mj_id2name(model, kind, i) for i in range(getattr(model, count))]
        for kind, count in COUNTS.items()
    }


@pytest.mark.parametrize("task_id", [BRIDGE, *libero_sample()[:1]])
def test_the_model_of_pictures_is_that_of_physics_with_a_look(task_id):
    scene = simulation(task_id).scene
    physics, pictures = scene.physics_model(), scene.picture_model()
    assert names(physics) == names(pictures)
    touched = (physics.geom_contype != 0) | (physics.geom_conaffinity != 0)
    for field in PHYSICS:
        assert np.array_equal(getattr(physics, field), getattr(pictures, field)), field
    assert np.array_equal(physics.geom_size[touched], pictures.geom_size[touched])
    assert pictures.ntexdata > physics.ntexdata


# ── what a task's file may get wrong ───────────────────────────────────────────────────────────────────


MISTAKES = {
    "problem": (
        "problem tabletop",
        "problem tabeltop",
        ":1: unknown problem 'tabeltop'; did you mean 'tabletop'",
    ),
    "surface": (
        "main_table - table",
        "desk - table",
        ":5: region 'main_table_right_region': nothing is called",
    ),
    "no place": (
        "(:ranges ((-0.16 0.06 0.02 0.24)))",
        "",
        ":4: region 'main_table_left_region' lies on the workspace and needs (:ranges …)",
    ),
    "part": ("(right_region", "(rim (:target plate_1)) (right_region", ":5: unknown region 'plate_1_rim'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_unknown_name_is_said_with_file_line_and_the_nearest(tmp_path, mistake):
    wrong, by, message = MISTAKES[mistake]
    assert wrong in TABLETOP
    goal = "(On carrot_1 plate_1_rim)" if mistake == "part" else "(On carrot_1 plate_1)"
    path = write_task(tmp_path / "own.bddl", goal=goal, text=TABLETOP.replace(wrong, by))
    with pytest.raises(VlaBenchError) as refused:
        build_scene(read_problem(path))
    assert str(refused.value).startswith(f"{path}{message}")


@needs_libero
@pytest.mark.parametrize(("name", "nearest"), [("carot", "carrot"), ("basket_", "basket")])
def test_an_unknown_category_gets_the_nearest_of_ours_and_of_liberos(tmp_path, name, nearest):
    path = write_task(tmp_path / "own.bddl", text=TABLETOP.replace("- carrot ", f"- {name} "))
    message = rf"own\.bddl:8: unknown object category '{name}'; did you mean '{nearest}'"
    with pytest.raises(UnknownNameError, match=message):
        build_scene(read_problem(path))


def test_without_liberos_data_it_gets_the_nearest_of_ours_and_the_way_to_liberos(tmp_path, monkeypatch):
    monkeypatch.delenv(catalog.LIBERO_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = write_task(tmp_path / "own.bddl", text=TABLETOP.replace("- carrot ", "- carot "))
    with pytest.raises(MissingDataError) as refused:
        build_scene(read_problem(path))
    begin, end = str(refused.value).split("; LIBERO's data is not installed")
    assert begin.startswith(f"{path}:8: object category 'carot' is not built in; did you mean 'carrot'")
    assert "`vla-bench assets libero`" in end


def test_a_workspace_without_its_surface_is_refused(tmp_path):
    desk = {"text": TABLETOP.replace("main_table", "desk"), "init": APART.replace("main_table", "desk")}
    path = write_task(tmp_path / "own.bddl", **desk)
    message = r"own\.bddl:1: problem 'tabletop' happens on 'main_table', which .* lacks; it has desk"
    with pytest.raises(DataError, match=message):
        build_scene(read_problem(path))


# ── LIBERO's files, missing and damaged ────────────────────────────────────────────────────────────────

TASK = "libero_object/0"


@pytest.fixture
def libero(tmp_path, monkeypatch):
    """A copy of LIBERO's data folder made of links, to be damaged."""
    whole, copy = catalog.libero_root(), tmp_path / "libero"
    ignore = shutil.ignore_patterns("libero_90", "libero_10", "libero_goal", "libero_spatial", "*.md")
    shutil.copytree(whole, copy, copy_function=os.symlink, ignore=ignore)
    monkeypatch.setenv(catalog.LIBERO_VARIABLE, str(copy))
    return copy


def cut(path, size=100):
    """Replace a link by the first bytes of its file."""
    content = path.read_bytes()[:size]
    path.unlink()
    path.write_bytes(content)
    return path


def begin():
    """The task, built and reset."""
    sim = MujocoSimulation(catalog.task(TASK))
    sim.reset(Episode(sim.task.id, init_state=0))
    return sim


def check_refused(call, path, missing):
    """The error says which file, what is wrong with it, and how to get it."""
    with pytest.raises(MissingDataError if missing else DataError) as error:
        call()
    assert path.name in str(error.value)
    assert "run `vla-bench assets libero`" in str(error.value)
    assert missing or re.search(r"has \d+ bytes, LIBERO's file has \d+", str(error.value))


@needs_libero
def test_a_sound_copy_works(libero):
    assert begin().task.bddl.is_relative_to(libero)


@needs_libero
@pytest.mark.parametrize("missing", [True, False], ids=["missing", "cut"])
@pytest.mark.parametrize(
    "pattern",
    [
        "bddl_files/libero_object/*alphabet_soup*.bddl",
        "init_files/libero_object/*alphabet_soup*.pruned_init",
        "assets/scenes/libero_floor_base_style.xml",
        "assets/stable_hope_objects/alphabet_soup/alphabet_soup.xml",
        "assets/stable_scanned_objects/basket/basket.xml",
    ],
)
def test_a_missing_or_cut_file_is_named_with_the_way_to_get_it(libero, pattern, missing):
    (path,) = libero.glob(pattern)
    path.unlink() if missing else cut(path)
    check_refused(begin, path, missing)


@needs_libero
@pytest.mark.parametrize("missing", [True, False], ids=["missing", "cut"])
@pytest.mark.parametrize("name", ["texture_map.png", "visual/textured_vis.msh"])
def test_a_missing_or_cut_look_is_named_when_something_looks(libero, name, missing):
    path = libero / "assets/stable_hope_objects/alphabet_soup" / name
    path.unlink() if missing else cut(path)
    sim = begin()  # physics does not need it
    check_refused(lambda: sim.observe([CameraView("agentview", 32, 32)]), path, missing)
