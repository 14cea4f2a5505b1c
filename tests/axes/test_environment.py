import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from support.worlds import BRIDGE

from vla_bench import catalog
from vla_bench.axes.environment import make_env
from vla_bench.axes.variation import VariationError
from vla_bench.errors import UnknownNameError
from vla_bench.types import Episode

ID = "vla_bench.envs:" + catalog.task(BRIDGE).gym_id


def test_gymnasium_makes_a_varied_task():
    plain, varied = gymnasium.make(ID), gymnasium.make(ID, variation="language.synonyms@5+visual.lighting@4")
    seen, info = plain.reset(seed=3)
    varied_seen, varied_info = varied.reset(seed=3)
    assert info["instruction"] == "put the carrot on the plate"
    assert varied_info["instruction"] == "place the carrot root on the dish"
    assert not np.array_equal(seen["agentview"], varied_seen["agentview"])
    np.testing.assert_array_equal(seen["robot0_joint_pos"], varied_seen["robot0_joint_pos"])
    plain.close()
    varied.close()


@pytest.mark.filterwarnings("ignore:.*WARN.*")
def test_a_varied_environment_keeps_gymnasiums_rules():
    env = make_env(BRIDGE, variation="motion.relocation@2+physical.mass@3", image_px=(32, 32))
    check_env(env, skip_render_check=True)
    env.close()


def test_a_variation_that_does_not_apply_is_refused_when_the_environment_is_made():
    with pytest.raises(
        VariationError, match=r"joint_damping does not apply.*nothing with a joint.*applies: visual"
    ):
        make_env(BRIDGE, variation="physical.joint_damping@1")
    with pytest.raises(UnknownNameError, match=r"did you mean 'visual\.fog'"):
        make_env(BRIDGE, variation="visual.fogg@1")


def test_the_drawn_values_are_those_of_the_episode():
    env = make_env(BRIDGE, variation="motion.relocation@3", cameras=())
    env.reset(seed=1)
    simulation = env.simulation
    assert simulation.drawn["motion.relocation"]["relocated_at_s"] is None
    due = simulation.drawn["motion.relocation"]["due_s"]
    before = simulation.observe(privileged=True).state.entities["carrot_1"].pos
    for _ in range(15):
        env.step(np.zeros(7))
    drawn = simulation.drawn["motion.relocation"]
    after = simulation.observe(privileged=True).state.entities["carrot_1"].pos
    assert due <= drawn["relocated_at_s"] < due + 0.05
    np.testing.assert_allclose((after - before)[:2], drawn["moved_m"], atol=0.004)
    assert np.hypot(*drawn["moved_m"]) == pytest.approx(0.07)
    simulation.reset(Episode(BRIDGE, seed=1))
    assert simulation.drawn == {}
    env.close()


def test_what_the_robot_has_touched_is_not_relocated():
    env = make_env(BRIDGE, variation="motion.relocation@1", cameras=())
    env.reset(seed=1)
    inner = env.simulation.current
    hand = inner.data.site("gripper0_grip_site").xpos.copy()
    inner.data.joint("carrot_1_joint0").qpos[:3] = np.add(hand, [0, 0.04, 0])  # at a finger
    for _ in range(15):
        env.step(np.zeros(7))
    drawn = env.simulation.drawn["motion.relocation"]
    assert drawn["touched_at_s"] < drawn["due_s"]
    assert drawn["relocated_at_s"] is None
    env.close()
