"""robosuite's own tasks against robosuite itself."""

import logging
import os

import gymnasium
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.worlds import BRIDGE, environment, python

from vla_bench import catalog, seeding
from vla_bench.axes.environment import make_env
from vla_bench.axes.simulation import build_simulation, open_simulation
from vla_bench.errors import (
    ConventionError,
    DataError,
    DivergedError,
    MissingCapabilityError,
    UnknownNameError,
)
from vla_bench.policy.cards import load_policy
from vla_bench.run.conventions import check_conventions
from vla_bench.sim.env import TaskEnv
from vla_bench.sim.robosuite_import import import_robosuite
from vla_bench.types import CameraView, Episode

LIFT, CAN, SQUARE = (f"robosuite/{stem}" for stem in ("lift", "pick_place_can", "nut_assembly_square"))
ABSOLUTE = "robosuite_absolute/lift"
ENVIRONMENTS = {LIFT: "Lift", CAN: "PickPlaceCan", SQUARE: "NutAssemblySquare", ABSOLUTE: "Lift"}
EYE = CameraView("agentview", 84, 84)


@pytest.fixture(scope="module")
def robosuite():
    try:
        return import_robosuite()
    except MissingCapabilityError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def simulations(robosuite):
    """Task id → its simulation, made once; every test begins with a reset."""
    made = {}

    def simulation(task_id):
        if task_id not in made:
            made[task_id] = open_simulation(catalog.task(task_id))
        return made[task_id]

    yield simulation
    for each in made.values():
        each.close()


def start(simulation, seed=0):
    simulation.reset(Episode(simulation.task.id, seed=seed))
    return simulation


def positions(simulation):
    return simulation._env.sim.data.qpos.copy()


def commands(simulation, n=3):
    """Differences, or poses near the hand's."""
    drawn = seeding.generator("eval", "robosuite").uniform(-1, 1, (n, 7))
    if simulation.task.action_convention == "delta_pose":
        return drawn
    pos, turned = hand(simulation)
    return np.hstack([pos + 0.05 * drawn[:, :3], turned + 0.2 * drawn[:, 3:6], np.sign(drawn[:, 6:])])


def hand(simulation):
    """Position (m) and rotation vector (rad) of the frame that the controller moves."""
    site = simulation._data.site("gripper0_grip_site")
    return site.xpos.copy(), Rotation.from_matrix(site.xmat.reshape(3, 3)).as_rotvec()


# ── parity ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("task_id", ENVIRONMENTS)
def test_a_seed_and_actions_give_what_a_plain_robosuite_environment_gives(robosuite, simulations, task_id):
    config = robosuite.load_controller_config(default_controller="OSC_POSE")
    config["control_delta"] = task_id != ABSOLUTE
    original = robosuite.make(
        ENVIRONMENTS[task_id], robots="Panda", controller_configs=config, control_freq=20, ignore_done=True,
        use_camera_obs=False, has_offscreen_renderer=False,
    )  # fmt: skip
    with seeding.global_stream(np.random.RandomState(7)):
        seen = original.reset()
    simulation = start(simulations(task_id), 7)
    for command in (None, *commands(simulation)):
        if command is not None:
            seen, _, _, _ = original.step(command)
            simulation.tick(command)
        assert np.array_equal(positions(simulation), original.sim.data.qpos)
        assert np.array_equal(simulation._env.sim.data.qvel, original.sim.data.qvel)
        told = simulation.observe().proprio
        for name in ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"):
            assert np.array_equal(told[name], seen[name]), name
        assert np.array_equal(told["object"], seen["object-state"])
        assert simulation.succeeded == original._check_success()


def test_the_arm_is_set_up_as_in_robomimics_data(simulations):
    """The controller's numbers in the data sets' `env_args`, and 20 Hz."""
    for task_id, delta in ((LIFT, True), (ABSOLUTE, False)):
        env = simulations(task_id)._env
        controller = env.robots[0].controller
        assert (env.control_freq, controller.name, controller.use_delta) == (20, "OSC_POSE", delta)
        assert list(controller.output_max) == [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]
        assert (set(controller.kp), controller.impedance_mode, controller.uncoupling) == (
            {150},
            "fixed",
            True,
        )
    for task_id in ENVIRONMENTS:
        task = catalog.task(task_id)
        assert (task.budget.steps, task.policy_period_s) == (400, 0.05)
        assert (task.observation_height_px, task.observation_width_px) == (84, 84)
        assert task.cameras == ("agentview", "robot0_eye_in_hand")


def global_state():
    return np.random.get_state()[1].tobytes()  # noqa: NPY002


# ── an episode is its seed ─────────────────────────────────────────────────────────────────────────────────


def test_an_episode_depends_on_its_seed_alone_and_numpys_stream_stays_as_it_was(simulations):
    streams = [global_state()]
    simulation = start(simulations(LIFT), 1)
    first = positions(simulation)
    assert not np.array_equal(first, positions(start(simulation, 2)))
    simulation.tick(np.ones(7))
    streams.append(global_state())
    assert streams[0] == streams[1]
    with seeding.global_stream(seeding.numpy_stream(9)):
        assert np.array_equal(first, positions(start(simulation, 1))), "whatever the global stream is"
        simulation.tick(None)
        assert global_state() == np.random.RandomState(9).get_state()[1].tobytes()
    assert global_state() == streams[0]


def test_both_suites_begin_the_same_episodes_and_other_namespaces_others(simulations):
    assert np.array_equal(positions(start(simulations(LIFT), 5)), positions(start(simulations(ABSOLUTE), 5)))
    demo = open_simulation(catalog.task(LIFT), namespace="demo")
    assert not np.array_equal(positions(start(simulations(LIFT), 5)), positions(start(demo, 5)))


# ── ticks ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_command_the_controller_keeps_its_goal_and_the_gripper_its_sign(simulations):
    simulation = start(simulations(LIFT))
    width = simulation.observe().proprio["robot0_gripper_qpos"]
    simulation.tick(None)
    assert np.allclose(simulation.observe().proprio["robot0_gripper_qpos"], width, atol=1e-3)
    simulation.tick(np.array([0, 0, 1, 0, 0, 0, -1]))
    controller = simulation._env.robots[0].controller
    goal = controller.goal_pos.copy()
    told = [simulation.observe().proprio]
    for _ in range(5):
        simulation.tick(None)
        told.append(simulation.observe().proprio)
    assert np.array_equal(controller.goal_pos, goal)
    away = [np.linalg.norm(each["robot0_eef_pos"] - goal) for each in told]
    assert away[-1] < 0.3 * away[0]
    assert told[-1]["robot0_gripper_qpos"][0] > told[0]["robot0_gripper_qpos"][0] > 0
    assert simulation.observe().time_ns == 7 * 50_000_000


def test_an_absolute_command_is_the_pose_that_the_hand_goes_to(simulations):
    simulation = start(simulations(ABSOLUTE))
    pos, turned = hand(simulation)
    goal = pos + np.array([0.0, 0.03, 0.03])
    for _ in range(12):
        simulation.tick(np.array([*goal, *turned, -1]))
    pos, now = hand(simulation)
    assert np.linalg.norm(pos - goal) < 0.01
    assert (Rotation.from_rotvec(now) * Rotation.from_rotvec(turned).inv()).magnitude() < 0.05


def test_lifting_the_cube_is_success_and_grasping_it_the_stage_before(simulations):
    simulation = start(simulations(LIFT), 3)
    assert (simulation.succeeded, simulation.stages) == (False, ())
    scores = []
    for _ in range(60):
        away, up = -simulation.observe().proprio["gripper_to_cube_pos"], np.array([0, 0, 0.05])
        closes = np.linalg.norm(away) < 0.015 or bool(simulation.stages)
        aim = up if simulation.stages else away + up * (np.linalg.norm(away[:2]) > 0.01)
        simulation.tick(np.array([*np.clip(aim / 0.05, -1, 1), 0, 0, 0, 1 if closes else -1]))
        scores.append(simulation.score)
        if simulation.succeeded:
            break
    assert simulation.succeeded
    assert simulation.stages == ("grasped",)
    assert all(0 <= score < 1 for score in scores[:-1])
    assert scores[-1] == 1.0 > scores[-2] > scores[0]


def test_what_is_no_command_and_what_is_no_physics_is_refused(simulations):
    simulation = start(simulations(LIFT))
    for wrong in (np.zeros(6), np.full(7, np.nan)):
        with pytest.raises(ConventionError, match=r"robosuite/lift takes actions of shape \(7,\)"):
            simulation.tick(wrong)
    simulation._env.sim.data.qvel[:] = 1e12
    with pytest.raises(DivergedError, match=r"robosuite/lift: the physics diverged at tick 1: "):
        simulation.tick(None)


# ── pictures ───────────────────────────────────────────────────────────────────────────────────────────────


def test_pictures_are_drawn_when_asked_for_and_their_top_row_is_first(simulations):
    simulation = start(simulations(LIFT), 3)
    assert simulation.observe().images == {}
    assert simulation._renderer is None
    views = [EYE, CameraView("robot0_eye_in_hand", 60, 90)]
    images = simulation.observe(views).images
    assert {name: (each.shape, each.dtype) for name, each in images.items()} == {
        "agentview": ((84, 84, 3), np.uint8), "robot0_eye_in_hand": ((60, 90, 3), np.uint8),
    }  # fmt: skip
    bright = images["agentview"].astype(int).sum(axis=(1, 2))
    assert bright[60:].mean() > 1.3 * bright[:15].mean(), "the white table is below, the dark robot above"
    other = start(simulation, 4).observe([EYE]).images["agentview"]
    assert not np.array_equal(other, images["agentview"])
    again = start(simulation, 3).observe([EYE]).images["agentview"]
    assert np.array_equal(again, images["agentview"])
    assert (simulation._model.tex_colorspace == 1).all(), "as in the data, the colours are not darkened"
    with pytest.raises(UnknownNameError, match="unknown camera 'agentviw'; did you mean 'agentview'"):
        simulation.observe([CameraView("agentviw")])


# ── what fits, and what does not ───────────────────────────────────────────────────────────────────────────


def test_a_policy_of_the_other_action_convention_is_refused(simulations):
    noop = load_policy("noop")
    check_conventions(start(simulations(LIFT)), noop, "noop")
    with pytest.raises(ConventionError, match="actions are 'delta_pose', the task takes 'absolute_pose'"):
        check_conventions(start(simulations(ABSOLUTE)), noop, "noop")


def test_a_diffusion_policy_that_was_trained_on_poses_commands_them(simulations, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from support.diffusion import configuration, write_card, write_official

    checkpoint = write_official(tmp_path / "latest.ckpt", configuration(action_size=10, absolute=True))
    convention = catalog.task(ABSOLUTE).action_convention
    options = {"actions": "absolute_rot6d"}
    write_card(tmp_path, "poses", checkpoint, options, action_convention=convention)
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    policy, simulation = load_policy("poses"), start(simulations(ABSOLUTE))
    check_conventions(simulation, policy, "poses")
    policy.reset("", 0)
    seen = simulation.observe([CameraView(name, *policy.spec.image_px) for name in policy.spec.cameras])
    commands = policy.act([seen] * policy.spec.history).actions
    simulation.tick(commands[0])
    controller = simulation._env.robots[0].controller
    assert np.array_equal(controller.goal_pos, commands[0, :3])
    turned = Rotation.from_rotvec(commands[0, 3:6]).as_matrix()
    assert np.allclose(controller.goal_ori, turned, atol=1e-5)
    with pytest.raises(ConventionError, match="actions are 'absolute_pose', the task takes 'delta_pose'"):
        check_conventions(start(simulations(LIFT)), policy, "poses")


def test_scripted_experts_and_variations_say_in_a_sentence_that_they_do_not_work_here(simulations):
    simulation = start(simulations(LIFT))
    with pytest.raises(MissingCapabilityError, match="scripted experts do not act in robosuite's own tasks"):
        simulation.observe(privileged=True)
    with pytest.raises(MissingCapabilityError, match=r"robosuite/lift has no BDDL file.*cannot be varied"):
        make_env(LIFT, variation="visual.lighting@2")
    with pytest.raises(MissingCapabilityError, match="robosuite/lift has no BDDL file"):
        build_simulation(catalog.task(LIFT))
    with pytest.raises(MissingCapabilityError, match="cannot be varied"):
        simulation.reset(Episode(LIFT, "visual.lighting@2", seed=0))
    with pytest.raises(ConventionError, match="begin with a seed"):
        simulation.reset(Episode(LIFT, init_state=0))


def test_gymnasium_makes_them_and_the_action_space_is_that_of_the_convention(robosuite, simulations):
    env = gymnasium.make(f"vla_bench.envs:{catalog.task(SQUARE).gym_id}", cameras=())
    observation, info = env.reset(seed=1)
    assert observation in env.observation_space
    assert info == {"instruction": env.unwrapped.task.instruction, "success": False, **{
        name: getattr(env.unwrapped.simulation, name) for name in ("score", "stages")
    }}  # fmt: skip
    observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert (observation in env.observation_space, reward, terminated, truncated) == (True, 0.0, False, False)
    assert env.action_space.high.tolist() == [1.0] * 7
    absolute = TaskEnv(ABSOLUTE, simulation=simulations(ABSOLUTE), cameras=())
    assert absolute.action_space.contains(np.array([0.1, 0.0, 1.0, np.pi, 0.0, 0.0, 1.0]))


OWN = """
[own]
engine = "{engine}"
budget = {{ steps = 5 }}
tick_s = 0.05
policy_period_s = 0.05
observation_px = [84, 84]
cameras = ["{camera}"]
[own.scenes.lift]
instruction = "lift the cube"
options = {options}
"""
RIGHT = {
    "engine": "vla_bench.sim.robosuite_tasks:RobosuiteSimulation",
    "camera": "agentview",
    "options": '{ environment = "Lift", object = "cube" }',
}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"engine": "vla_bench.sim.nowhere:X"}, DataError, r"own\.toml: engine module .*nowhere'"),
        ({"engine": RIGHT["engine"] + "s"}, UnknownNameError, "did you mean 'RobosuiteSimulation'"),
        ({"camera": "agentviw"}, UnknownNameError, "own/lift: unknown camera 'agentviw'; did you mean"),
        ({"options": '{ environment = "Lft", object = "cube" }'}, UnknownNameError, "did you mean 'Lift'"),
        ({"options": '{ environment = "Lift", object = "cub" }'}, UnknownNameError, "did you mean 'cube'"),
        ({"options": '{ environment = "Lift" }'}, DataError, r"scenes\.lift\.options\.object' is missing"),
        ({"engine": "nothing"}, DataError, r"own\.engine = 'nothing'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_suite_of_scenes_is_named(robosuite, tmp_path, monkeypatch, wrong, error, message):
    (tmp_path / "own.toml").write_text(OWN.format(**RIGHT | wrong))
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(error, match=message):
        open_simulation(catalog.task("own/lift"))


def test_scenes_belong_to_an_engine_and_stand_instead_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    text = OWN.format(**RIGHT)
    for line, by, message in (
        (f'engine = "{RIGHT["engine"]}"', "", "scenes and engine belong together"),
        ("tick_s = 0.05\npolicy", 'folder = "."\ntick_s = 0.05\npolicy', "either folder or folders"),
        (
            "tick_s = 0.05\npolicy",
            'tasks = ["lift"]\ntick_s = 0.05\npolicy',
            "tasks belongs to a suite with one",
        ),
    ):
        assert line in text
        (tmp_path / "own.toml").write_text(text.replace(line, by, 1))
        catalog._suites.cache_clear()
        with pytest.raises(DataError, match=message):
            catalog.suites()


# ── importing it ───────────────────────────────────────────────────────────────────────────────────────────


def test_its_import_opens_no_log_file_and_no_opengl_and_leaves_the_choice_of_graphics(robosuite):
    handlers = logging.getLogger("robosuite_logs").handlers
    assert not [each for each in handlers if isinstance(each, logging.FileHandler)]
    assert os.environ.get("MUJOCO_GL") != "off"


WITHOUT = """
import sys
sys.modules["{missing}"] = None
from vla_bench import catalog
from vla_bench.axes.simulation import open_simulation
from vla_bench.errors import MissingCapabilityError
try:
    open_simulation(catalog.task("{task}"))
except MissingCapabilityError as error:
    print(error)
print(*[name for name in sys.modules if name.startswith("robosuite")])
"""


@pytest.mark.parametrize("missing", ["cv2", "termcolor"])
def test_what_it_lacks_is_said_in_a_sentence(tmp_path, missing):
    ended = python(WITHOUT.format(missing=missing, task=LIFT), environment(), cwd=tmp_path)
    said, left = ended.stdout.splitlines()
    assert said.startswith("robosuite's own tasks need robosuite itself, which does not import: "), (
        ended.stderr
    )
    assert missing in said
    assert "pip install 'vla-bench[robosuite]'" in said
    assert (left, list(tmp_path.iterdir())) == ("", []), "nothing half imported, no file"


def test_other_suites_do_not_import_it():
    code = (
        "from vla_bench.axes.simulation import open_simulation; from vla_bench import catalog; import sys\n"
    )
    code += f"open_simulation(catalog.task({BRIDGE!r})); print([m for m in sys.modules if m == 'robosuite'])"
    assert python(code).stdout.strip() == "[]"
