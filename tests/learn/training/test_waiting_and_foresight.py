"""What training leaves out, and what it says besides the actions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.training import config, demonstrations, opened, trained

from vla_bench.learn.samples import Samples
from vla_bench.learn.training.foresight import next_acts, waypoints
from vla_bench.learn.training.session import write_policy
from vla_bench.learn.training.waiting import waits


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return demonstrations(tmp_path_factory.mktemp("data") / "set")


def frames(moves, gripper, episode):
    actions = np.column_stack([moves, np.zeros((len(moves), 5)), gripper])
    return SimpleNamespace(actions=actions, episode=np.array(episode))


def test_only_what_neither_moves_nor_tells_the_fingers_anew_is_left_out():
    #         moves  still  still, closing  still  moves | another episode
    told = frames([0.5, 0.01, 0.01, 0.02, 0.6, 0.0], [-1, -1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1])
    assert waits(told, 0.1).tolist() == [False, True, False, True, False, False]
    assert not waits(told, 0.0).any()


def test_the_next_act_of_the_fingers_is_in_the_same_episode_or_its_end():
    gripper, episode = np.array([-1, -1, 1, 1, -1, -1, -1, 1.0]), np.array([0, 0, 0, 0, 0, 1, 1, 1])
    assert next_acts(gripper, episode).tolist() == [2, 2, 4, 4, 4, 7, 7, 7]


def test_waypoints_are_the_hand_now_and_at_the_next_act(data):
    samples = Samples(data, cameras=())
    said, place = waypoints(samples), samples.proprio["robot0_eef_pos"]
    then = next_acts(samples.actions[:, -1], samples.episode)
    assert np.corrcoef(said[:, 0], place[:, 0])[0, 1] == pytest.approx(1)
    assert np.corrcoef(said[:, 4], place[then, 1])[0, 1] == pytest.approx(1)
    opening = np.ptp(samples.proprio["robot0_gripper_qpos"], axis=1)
    assert np.corrcoef(said[:, 10], opening)[0, 1] == pytest.approx(1)


def test_foresight_is_learned_beside_the_actions_and_left_out_of_the_policy(data, tmp_path):
    how = config(foresight=1.0, batch=8, augment="none")
    session = opened(data, tmp_path / "alone", how)
    before = session.learner.measure(session.batches.batch(0))
    assert before.objective > before.loss
    session, ended = trained(data, tmp_path / "out", 30, how)
    after = session.learner.measure(session.batches.batch(0))
    assert after.objective - after.loss < 0.8 * (before.objective - before.loss)
    assert list(ended.checkpoint.glob("foresight--*"))
    write_policy(session, 30, ("fp32",))
    assert not list((tmp_path / "out/policy").glob("foresight*"))


def test_labels_spread_over_neighbours_cost_more_than_the_label_alone(data, tmp_path):
    spread = opened(data, tmp_path, config(label_spread=2.0))
    with torch.no_grad():
        found = spread.learner.measure(spread.batches.batch(0))
    assert torch.isfinite(found.objective)
    assert found.objective != found.loss
