import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from support.worlds import BRIDGE, STACKED, libero_sample, needs_libero, python, tabletop, with_steps

from vla_bench import catalog, seeding
from vla_bench.errors import ConventionError, DataError, UnknownNameError, VlaBenchError
from vla_bench.run.rollout import Rollout
from vla_bench.sim.env import TaskEnv
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

TASKS = [BRIDGE, *libero_sample()[:1]]
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


def actions(n):
    return seeding.generator("eval", "env").uniform(-1, 1, (n, 7))


def same(a, b):
    """Whether two observations are equal to the bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("task_id", TASKS)
def test_gymnasiums_checker_is_content_without_a_warning(task_id):
    name = f"vla_bench.envs:{catalog.task(task_id).gym_id}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, image_px=(32, 32), render_mode="rgb_array")
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("task_id", TASKS)
def test_a_seed_begins_the_same_episode_whatever_came_before(task_id):
    env = TaskEnv(task_id, cameras=())
    first, info = env.reset(seed=5)
    trajectory = [env.step(action)[0] for action in actions(3)]
    other, _ = env.reset(seed=6)
    unseeded, _ = env.reset()
    again, _ = env.reset(seed=5)
    assert same(first, again)
    assert all(map(same, trajectory, [env.step(action)[0] for action in actions(3)]))
    assert info["instruction"] == env.task.instruction
    assert (info["success"], info["score"]) == (False, 0.0)
    sim = MujocoSimulation(env.task)
    sim.reset(Episode(task_id, seed=5))
    assert same(first, sim.observe().proprio)
    states = [sim.data.qpos.copy()]
    for seed in (6, 5):
        env.reset(seed=seed)
        states.append(env.simulation.data.qpos.copy())
    assert np.array_equal(states[0], states[2])
    assert not np.array_equal(states[0], states[1])
    assert other.keys() == unseeded.keys()


def test_without_a_seed_the_environments_own_generator_draws_one():
    env = TaskEnv(BRIDGE, cameras=())

    def places():
        env.reset(seed=1)
        found = []
        for _ in range(3):
            env.reset()
            found.append(env.simulation.data.qpos.tobytes())
        return found

    assert places() == places()
    assert len(set(places())) == 3


@needs_libero
def test_the_protocols_episodes_can_be_asked_for_in_any_order():
    task_id = libero_sample()[0]
    env, sim = TaskEnv(task_id, cameras=()), MujocoSimulation(catalog.task(task_id))
    for k in (7, 3, 3):
        env.reset(options={"init_state": k})
        sim.reset(Episode(task_id, init_state=k))
        assert np.array_equal(env.simulation.data.qpos, sim.data.qpos)
        assert np.array_equal(env.simulation.model.body_pos, sim.model.body_pos)
    with pytest.raises(DataError, match="has initial states 0 … 49, not 50"):
        env.reset(options={"init_state": 50})


def test_a_step_is_a_policy_step_of_the_runner(tmp_path):
    """The two ways to run an episode agree on physics, success and the end of the budget."""
    task = with_steps(tabletop(tmp_path, init=STACKED), 9)
    env, run = TaskEnv(task, cameras=()), Rollout(MujocoSimulation(task), policy=None)
    env.reset(seed=0)
    run.simulation.reset(Episode(task.id, seed=0))
    for action in [*actions(2), *[STILL] * 7]:
        action[6] = -1.0  # so that the goal has held for its time in the middle of a step
        observation, reward, terminated, truncated, info = env.step(action)
        run.step(action)
        assert same(observation, run.simulation.observe().proprio)
        assert (terminated, truncated) == (run.succeeded, run.ended_by is not None)
        assert (reward, info["success"]) == (float(terminated), terminated)
        if run.ended:
            break
    assert run.succeeded
    assert run.ticks % task.ticks_per_step != 0


def test_an_episode_ends_with_success_or_with_its_budget(tmp_path):
    env = TaskEnv(tabletop(tmp_path, init=STACKED), cameras=())
    env.reset(seed=0)
    ends = [env.step(STILL)[1:4] for _ in range(3)]
    assert ends[-1] == (1.0, True, False)
    assert ends[0] == (0.0, False, False), "held for less than 0.4 s"
    env = TaskEnv(with_steps(catalog.task(BRIDGE), 3), cameras=())
    env.reset(seed=0)
    assert [env.step(STILL)[1:4] for _ in range(3)] == [(0.0, False, False)] * 2 + [(0.0, False, True)]


def test_pictures_are_those_that_were_asked_for():
    env = TaskEnv(BRIDGE, cameras=("sideview",), image_px=(24, 40), render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert observation["sideview"].shape == (24, 40, 3)
    assert set(observation) == set(env.observation_space.spaces)
    assert observation in env.observation_space
    frame = env.render()
    assert frame.shape == (24, 40, 3)
    assert not np.array_equal(frame, observation["sideview"]), "render shows the task's first camera"
    assert env.metadata["render_fps"] == round(1 / env.task.policy_period_s)
    assert TaskEnv(BRIDGE, cameras=()).render() is None
    env.close()


def test_pictures_are_the_protocols_unless_asked_otherwise():
    env = TaskEnv(BRIDGE)
    shape = env.task.observation_height_px, env.task.observation_width_px, 3
    assert {name: env.observation_space[name].shape for name in env.task.cameras} == dict.fromkeys(
        env.task.cameras, shape
    )


REFUSED = {
    "task": (
        lambda: TaskEnv("bridge_base/put_the_carot"),
        UnknownNameError,
        "unknown task 'bridge_base/put_the_carot'; did",
    ),
    "camera": (
        lambda: TaskEnv(BRIDGE, cameras=("agentveiw",)),
        UnknownNameError,
        "unknown camera 'agentveiw'; did you mean 'agentview'",
    ),
    "render mode": (
        lambda: TaskEnv(BRIDGE, render_mode="human"),
        VlaBenchError,
        "render_mode 'human'; known: ['rgb_array'] and None",
    ),
    "option": (
        lambda: TaskEnv(BRIDGE).reset(options={"init": 3}),
        VlaBenchError,
        "unknown reset options ['init']; known: init_state",
    ),
    "initial state": (
        lambda: TaskEnv(BRIDGE).reset(options={"init_state": 3}),
        ConventionError,
        "has no initial states; give the episode a seed",
    ),
    "order": (lambda: TaskEnv(BRIDGE).step(STILL), ConventionError, "call reset() before step()"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("action", [np.zeros(8), np.full(7, np.nan), np.zeros((1, 7))])
def test_an_impossible_action_is_refused_and_nothing_moves(action):
    env = TaskEnv(BRIDGE, cameras=())
    env.reset(seed=0)
    before = env.simulation.data.qpos.copy()
    with pytest.raises(ConventionError, match=r"takes actions of shape \(7,\) with finite numbers"):
        env.step(action)
    assert np.array_equal(env.simulation.data.qpos, before)


def compare_with_singles(vector, make, steps, seed=3):
    """A vector environment does what its environments do alone."""
    singles = [make(), make()]
    observed, _ = vector.reset(seed=seed)
    alone = [env.reset(seed=seed + i)[0] for i, env in enumerate(singles)]
    for action in [None, *actions(2 * steps).reshape(steps, 2, 7)]:
        if action is not None:
            observed, rewards, *_ = vector.step(action)
            alone = [env.step(a)[0] for env, a in zip(singles, action, strict=True)]
            assert rewards.tolist() == [0.0, 0.0]
        for i in range(2):
            assert same({name: value[i] for name, value in observed.items()}, alone[i])
    vector.close()
    return [env.close() for env in singles]


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_vector_environments_equal_single_ones_step_by_step(kind):
    def make():
        return TaskEnv(BRIDGE, cameras=())

    compare_with_singles(kind([make, make]), make, steps=5)


DRAWING = """
import gymnasium, numpy as np
from gymnasium.vector import AsyncVectorEnv

ID = "vla_bench.envs:vla_bench/bridge_base.put_the_carrot_on_the_plate-v0"

def make():
    return gymnasium.make(ID, cameras=("agentview",), image_px=(24, 24))

if __name__ == "__main__":
    vector = AsyncVectorEnv([make, make], context={context!r})
    observed = [vector.reset(seed=3)[0]] + [vector.step(np.full((2, 7), 0.5))[0] for _ in range(2)]
    vector.close()
    for i in range(2):
        env = make()
        alone = [env.reset(seed=3 + i)[0]] + [env.step(np.full(7, 0.5))[0] for _ in range(2)]
        for many, one in zip(observed, alone):
            assert all(np.array_equal(many[name][i], one[name]) for name in one), i
        env.close()
    print("equal")
"""


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_drawing_vector_environments_equal_single_ones(tmp_path, context):
    script = tmp_path / "drawing.py"
    script.write_text(DRAWING.format(context=context))
    ended = python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    assert ended.stdout.strip() == "equal", ended.stderr
