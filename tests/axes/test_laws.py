"""What every factor must hold, on a built-in task and on LIBERO."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.varied import VIEWS, digest, episode, pixel_digest, state_digest, varied
from support.worlds import BRIDGE, ROOT, needs_libero, python

from vla_bench import catalog
from vla_bench.axes.factors import factors
from vla_bench.axes.requirements import applicable, refusal
from vla_bench.axes.simulation import build_simulation
from vla_bench.axes.variation import canonical
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

LIBERO = "libero_goal/put_the_bowl_on_the_plate"
DRAWER = "libero_goal/open_the_middle_drawer_of_the_cabinet"
TASKS = [BRIDGE, pytest.param(LIBERO, marks=needs_libero)]
FIXED = applicable(catalog.task(BRIDGE))
LOOKS = [i for i in FIXED if i.startswith("visual.") and i not in ("visual.distractors",)]
WORDS = [i for i in FIXED if factors()[i].sets == ("instruction",)]
# what LIBERO would only repeat
SLOW_THERE = {"visual.blur", "visual.jpeg", "visual.exposure", "semantic.unseen_receptacle", *WORDS[1:]}
TICKS = 150  # 3 s of a built-in task: relocation happens before

# What keeps the scene as it is compiled, so that any of them compose quickly.
UNCOMPILED = [
    i
    for i in FIXED
    if not i.startswith("semantic.unseen_") or i == "semantic.unseen_verbs"
    if i not in ("visual.distractors", "motion.moving_target", "physical.size", "physical.proportions")
]


@pytest.mark.parametrize("task_id", TASKS)
def test_level_0_changes_nothing_at_all(task_id):
    plain, simulation = MujocoSimulation(catalog.task(task_id)), varied(task_id)
    everything = "+".join(f"{name}@0" for name in factors())
    for start in (0, 4):
        simulation.reset(episode(task_id, everything, start))
        plain.reset(episode(task_id, "", start))
        assert pixel_digest(simulation) == pixel_digest(_Wrapped(plain))
        assert state_digest(simulation, 20) == state_digest(_Wrapped(plain), 20)
        assert simulation.drawn == {}
        assert simulation.instruction == catalog.task(task_id).instruction
    plain.close()


class _Wrapped:
    """An unvaried simulation with the names that digests use."""

    def __init__(self, simulation):
        self.current, self.tick, self.observe = simulation, simulation.tick, simulation.observe


@pytest.mark.parametrize("task_id", TASKS)
def test_a_varied_episode_differs_and_leaves_nothing_behind(task_id):
    simulation, ticks = varied(task_id), TICKS if task_id == BRIDGE else 60
    nominal = digest(simulation, episode(task_id), ticks)
    for name in applicable(simulation.task):
        if task_id == LIBERO and name in SLOW_THERE:
            continue
        level = 5 if refusal(factors()[name], simulation.task, 5) is None else 1
        found = digest(simulation, episode(task_id, f"{name}@{level}"), ticks)
        differs = {key for key in ("pixels", "state", "instruction") if found[key] != nominal[key]}
        assert differs, name
        if factors()[name].axis == "visual" and name not in ("visual.distractors",):
            assert "pixels" in differs, name
        assert json.loads(found["drawn"])[name], f"{name} records nothing"
        assert digest(simulation, episode(task_id), ticks) == nominal, f"{name} leaves something behind"


@pytest.mark.parametrize("name", LOOKS + WORDS)
def test_looks_and_words_do_not_touch_the_physics(name):
    simulation = varied(BRIDGE)
    simulation.reset(episode(BRIDGE))
    cameras = simulation.current.model.cam_pos.copy(), simulation.current.model.cam_fovy.copy()
    nominal = state_digest(simulation, 60)
    simulation.reset(episode(BRIDGE, f"{name}@4"))
    # cameras are numbers of the physics model that no physics reads
    simulation.current.model.cam_pos[:], simulation.current.model.cam_fovy[:] = cameras
    assert state_digest(simulation, 60) == nominal


@pytest.mark.parametrize("task_id", [BRIDGE, pytest.param(DRAWER, marks=needs_libero)])
def test_another_process_draws_and_sees_the_same(task_id):
    simulation = build_simulation(catalog.task(task_id))
    names = [
        f"{name}@{1 + n % 5}" for n, name in enumerate(applicable(simulation.task)) if "prompt" not in name
    ]
    names = [v for v in names if refusal(factors()[v[:-2]], simulation.task, int(v[-1])) is None]
    ours = {variation: digest(simulation, episode(task_id, variation, 2), 5) for variation in names}
    simulation.close()
    code = (
        f"import json, sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from support.varied import VIEWS, digest, episode, varied\n"
        f"names = {list(reversed(names))!r}\n"  # in another order
        f"print(json.dumps({{v: digest(varied({task_id!r}), episode({task_id!r}, v, 2), 5) for v in names}}))"
    )
    ended = python(code)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == ours


@pytest.mark.parametrize("name", [i for i in FIXED if i not in WORDS])
def test_another_seed_draws_something_else(name):
    simulation, drawn = varied(BRIDGE), set()
    # a level's own values are the same for every seed, and a carrot is best stretched along itself
    fixed = {"visual.blur", "visual.noise", "visual.jpeg", "physical.friction", "semantic.unseen_target",
             "semantic.unseen_receptacle", "physical.proportions"}  # fmt: skip
    for seed in range(8):
        simulation.reset(episode(BRIDGE, f"{name}@2", seed))
        drawn.add(json.dumps(simulation.drawn[name], sort_keys=True))
    assert (len(drawn) == 1) == (name in fixed)


@pytest.mark.parametrize("task_id", ["bridge/cup_from_counter_into_sink", "bridge_base/lift_the_eggplant"])
def test_no_light_is_so_bright_that_pale_things_become_one(task_id):
    simulation = varied(task_id)

    def clipped(variation, seed):
        simulation.reset(episode(task_id, variation, seed))
        images = simulation.observe(VIEWS).images
        return max(float((image == 255).any(axis=-1).mean()) for image in images.values())

    for seed in range(6):
        for level in (2, 5):
            assert clipped(f"visual.lighting@{level}", seed) < clipped("", seed) + 0.05


def test_noise_is_new_in_every_picture_and_differs_between_cameras_and_seeds():
    simulation, seen = varied(BRIDGE), set()
    for seed in (0, 1):
        simulation.reset(episode(BRIDGE, "visual.noise@3", seed))
        first = pixel_digest(simulation)
        assert pixel_digest(simulation) == first, "one instant is one picture"
        simulation.tick(None)
        seen |= {first, pixel_digest(simulation)}
    assert len(seen) == 4


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(UNCOMPILED), min_size=2, max_size=4, unique=True),
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
    st.integers(0, 10_000),
    st.randoms(use_true_random=False),
)
def test_compositions_are_the_same_in_any_order_and_draw_as_their_parts(names, levels, seed, random):
    taken = set()
    names = [n for n in names if not (taken & set(s := factors()[n].sets)) and not taken.update(s)]
    parts = [f"{name}@{level}" for name, level in zip(names, levels, strict=False)]
    simulation = varied(BRIDGE)
    once = digest(simulation, episode(BRIDGE, "+".join(parts), seed), 5)
    assert digest(simulation, episode(BRIDGE, "+".join(random.sample(parts, len(parts))), seed), 5) == once
    together = json.loads(once["drawn"])
    if "redraws" not in together:
        for part in parts:
            simulation.reset(episode(BRIDGE, part, seed))
            if "redraws" not in simulation.drawn:
                name = part.partition("@")[0]
                alone = simulation.drawn[name].keys() & {
                    "colour",
                    "factor",
                    "stops",
                    "offsets_deg",
                    "variant",
                }
                assert all(simulation.drawn[name][key] == together[name][key] for key in alone), part
    assert canonical("+".join(parts)) == canonical("+".join(reversed(parts)))


def test_a_variation_compiles_at_most_once_and_data_never():
    simulation = build_simulation(catalog.task(BRIDGE))
    for name in UNCOMPILED:
        level = next((n for n in (3, 1) if refusal(factors()[name], simulation.task, n) is None), None)
        if level is not None:
            simulation.reset(episode(BRIDGE, f"{name}@{level}"))
    assert simulation.compilations == 1
    for seed in range(6):
        simulation.reset(episode(BRIDGE, "motion.moving_target@3", seed))
        simulation.reset(episode(BRIDGE, "motion.moving_target@5", seed))
    assert simulation.compilations == 2, "the tray is the same for all levels and draws"
    simulation.reset(episode(BRIDGE, "physical.size@3+visual.distractors@2+semantic.unseen_receptacle@2", 1))
    assert simulation.compilations == 3
    simulation.close()


def test_prompts_of_one_scene_are_varied_alike():
    tasks = [catalog.task(f"bridge/lift_{name}") for name in ("cheese", "red_chili_pepper")]
    drawn = []
    for task in tasks:
        simulation = build_simulation(task)
        simulation.reset(Episode(task.id, "visual.lighting@3+visual.table@2", seed=5))
        drawn.append((json.dumps(simulation.drawn), simulation.current.data.qpos.tobytes()))
        simulation.close()
    assert drawn[0] == drawn[1]


def test_certificates_draw_apart_from_evaluations():
    drawn = []
    for namespace in ("eval", "certify"):
        simulation = build_simulation(catalog.task(BRIDGE), namespace=namespace)
        simulation.reset(episode(BRIDGE, "visual.lighting@3", 0))
        drawn.append((json.dumps(simulation.drawn), simulation.current.data.qpos.tobytes()))
        simulation.close()
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_a_raised_table_takes_everything_on_it_along():
    task, seen = "bridge_base/put_the_green_cup_in_the_sink", []
    simulation = varied(task)
    for variation in ("", "motion.table_height@5"):
        simulation.reset(episode(task, variation, 3))
        state = simulation.observe(privileged=True).state
        seen.append({name: thing.pos for name, thing in {**state.entities, **state.regions}.items()})
    raised = simulation.drawn["motion.table_height"]["raised_m"]
    assert abs(raised) == 0.06
    for name, pos in seen[0].items():
        np.testing.assert_allclose(seen[1][name], np.add(pos, [0, 0, raised]), atol=1e-12, err_msg=name)
