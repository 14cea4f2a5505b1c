import numpy as np
import pytest
from support.worlds import BRIDGE, ROOT, environment, python, simulation

from vla_bench.sim.window import Window
from vla_bench.types import CameraView, Episode

VIEWS = [CameraView("agentview", 48, 64), CameraView("robot0_eye_in_hand", 32, 32)]


@pytest.fixture
def sim():
    sim = simulation(BRIDGE)
    sim.reset(Episode(BRIDGE, seed=0))
    return sim


def pictures(window, sim, views=VIEWS):
    return window.pictures(views, sim.data.qpos, sim.model)


def test_each_view_is_drawn_in_its_size_and_all_see_something(sim):
    window = Window(sim.scene)
    drawn = pictures(window, sim)
    assert {name: picture.shape for name, picture in drawn.items()} == {
        view.name: (view.height_px, view.width_px, 3) for view in VIEWS
    }
    assert all(picture.std() > 5 for picture in drawn.values())
    window.close()


def test_the_same_configuration_looks_the_same_in_any_window_at_any_time(sim):
    first, other = Window(sim.scene), Window(sim.scene)
    before = pictures(first, sim)
    sim.data.joint("carrot_1_joint0").qpos[:2] += 0.05
    moved = pictures(first, sim)
    sim.data.joint("carrot_1_joint0").qpos[:2] -= 0.05
    again, elsewhere = pictures(first, sim), pictures(other, sim, VIEWS[::-1])
    first.close()
    reopened = pictures(first, sim)
    name = VIEWS[0].name
    assert not np.array_equal(moved[name], before[name]), "the carrot is seen to move"
    for drawn in (again, elsewhere, reopened):
        assert all(np.array_equal(drawn[view.name], before[view.name]) for view in VIEWS)
    first.close()
    other.close()


def test_fixtures_are_seen_where_the_physics_has_them():
    task_id = "bridge_base/put_the_mushroom_in_the_drying_rack"
    sim = simulation(task_id)
    sim.reset(Episode(task_id, seed=0))
    window, (fixture,) = Window(sim.scene), [item for item in sim.scene.items.values() if not item.movable]
    body, before = sim.model.body(fixture.body).id, pictures(window, sim, VIEWS[:1])
    sim.model.body_pos[body, :2] += 0.05
    moved = pictures(window, sim, VIEWS[:1])
    sim.reset(Episode(task_id, seed=0))
    again = pictures(window, sim, VIEWS[:1])
    name = VIEWS[0].name
    assert not np.array_equal(moved[name], before[name])
    assert np.array_equal(again[name], before[name])
    window.close()


def test_drawing_does_not_touch_the_physics(sim):
    window, model, data = Window(sim.scene), sim.model, sim.data
    fields = [name for name in dir(model) if isinstance(getattr(model, name), np.ndarray)]
    before = {name: getattr(model, name).copy() for name in fields}
    state = data.qpos.copy(), data.xpos.copy(), data.time
    pictures(window, sim)
    assert all(np.array_equal(getattr(model, name), value, equal_nan=True) for name, value in before.items())
    assert np.array_equal(data.qpos, state[0])
    assert np.array_equal(data.xpos, state[1])
    assert data.time == state[2]
    window.close()


def test_nothing_is_drawn_or_loaded_before_the_first_picture():
    code = (
        "import sys\n"
        "from support.worlds import BRIDGE, simulation\n"
        "from vla_bench.sim import graphics\n"
        "from vla_bench.types import CameraView, Episode\n"
        "sim = simulation(BRIDGE)\n"
        "sim.reset(Episode(BRIDGE, seed=0)); sim.tick(None); sim.observe(privileged=True)\n"
        "from vla_bench.sim.env import TaskEnv\n"
        "env = TaskEnv(BRIDGE, cameras=())\n"
        "env.reset(seed=0); env.step(env.action_space.sample())\n"
        "print(graphics._the_context is None and 'OpenGL' not in sys.modules)\n"
        "sim.observe([CameraView('agentview', 16, 16)])\n"
        "print(graphics._the_context is not None)\n"
    )
    ended = python(code, environment(ROOT / "tests"))
    assert ended.stdout.split() == ["True", "True"], ended.stderr
