"""What policies are compared with: instants of demonstrations, with the history that a policy asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.worlds import BRIDGE

from vla_bench import catalog
from vla_bench.doctor.examination import others, with_pictures_of
from vla_bench.doctor.pairs import from_demonstrations, from_expert, select_episode
from vla_bench.errors import ConventionError, MissingDataError
from vla_bench.policy.base import PolicySpec

SPEC = PolicySpec(cameras=("agentview",), image_px=(32, 32))
TASK = catalog.task(BRIDGE)


@pytest.fixture(scope="module")
def evidence():
    return from_expert(TASK, replace(SPEC, history=2, history_stride_s=0.4), 2, 5)


def test_instants_are_spread_over_the_episode(evidence):
    assert [len(episode) for episode in evidence.episodes] == [5, 5]
    assert evidence.groups.tolist() == [0] * 5 + [1] * 5
    assert evidence.done.shape == (10, 7)
    for episode in evidence.episodes:
        times = np.array([pair.seen[-1].time_ns for pair in episode])
        assert (np.diff(times) > 0).all()
        assert np.ptp(np.diff(times)) <= 2 * 0.2e9, "even but for rounding to a policy period"


def test_a_history_is_as_long_ago_as_the_policy_asks(evidence):
    for episode in evidence.episodes:
        for index, pair in enumerate(episode):
            before, now = pair.seen
            assert now.time_ns - before.time_ns == (0 if index == 0 else 400_000_000)
            assert now.images["agentview"].shape == (32, 32, 3)


def test_the_same_is_seen_and_done_again(evidence):
    again = from_expert(TASK, SPEC, 1, 5)
    for first, second in zip(evidence.episodes[0], again.episodes[0], strict=True):
        np.testing.assert_array_equal(first.done, second.done)
        np.testing.assert_array_equal(first.seen[-1].images["agentview"], second.seen[0].images["agentview"])


def test_episodes_are_none_of_an_evaluation():
    seeds = {select_episode(TASK, index).seed for index in range(50)}
    assert len(seeds) == 50
    assert all(seed is not None and seed >= 2**16 for seed in seeds)


def test_a_stride_that_the_task_does_not_have_is_refused():
    with pytest.raises(ConventionError, match=r"every 0\.3 s, which is no multiple of 0\.2 s"):
        from_expert(TASK, replace(SPEC, history=2, history_stride_s=0.3), 1, 3)


def test_pictures_are_exchanged_between_episodes_only(evidence):
    strangers = others(evidence.groups)
    assert all(evidence.groups[i] != evidence.groups[j] for i, j in enumerate(strangers))
    mine, theirs = evidence.pairs[0], evidence.pairs[strangers[0]]
    mixed = with_pictures_of(mine, theirs)
    np.testing.assert_array_equal(mixed.seen[-1].images["agentview"], theirs.seen[-1].images["agentview"])
    assert mixed.seen[-1].proprio is mine.seen[-1].proprio
    assert mixed.done is mine.done


@pytest.fixture
def recorded(tmp_path):
    """A file as LIBERO's: three episodes of six actions, pictures bottom row first."""
    h5py = pytest.importorskip("h5py")
    stream = np.random.default_rng(0)
    with h5py.File(tmp_path / f"{TASK.stem}_demo.hdf5", "w") as file:
        for index in range(3):
            group = file.create_group(f"data/demo_{index}")
            group["actions"] = stream.uniform(-1, 1, (6, 7))
            group["obs/agentview_rgb"] = stream.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    return tmp_path


def test_recorded_demonstrations_give_the_same_kind_of_pairs(recorded):
    h5py = pytest.importorskip("h5py")
    evidence = from_demonstrations(recorded, TASK, SPEC, 3, 3)
    assert [len(episode) for episode in evidence.episodes] == [3, 3, 3]
    with h5py.File(recorded / f"{TASK.stem}_demo.hdf5") as file:
        group = file["data/demo_1"]
        for pair, index in zip(evidence.episodes[1], (0, 2, 5), strict=True):
            np.testing.assert_array_equal(pair.done, group["actions"][index])
            upright = group["obs/agentview_rgb"][index][::-1]
            np.testing.assert_array_equal(pair.seen[-1].images["agentview"], upright)
    assert str(recorded) in evidence.source


def test_demonstrations_of_another_task_or_size_are_refused(recorded):
    with pytest.raises(MissingDataError, match=f"holds 3 episodes of {BRIDGE}, 12 are wanted"):
        from_demonstrations(recorded, TASK, SPEC, 12, 3)
    other = catalog.task("bridge_base/lift_the_carrot")
    with pytest.raises(MissingDataError, match=f"holds 0 episodes of {other.id}.*its tasks: {TASK.stem}"):
        from_demonstrations(recorded, other, SPEC, 2, 3)
    with pytest.raises(
        ConventionError, match=r"policy 'tiny' .* agentview at 64×64 pixels, the data have 32×32"
    ):
        from_demonstrations(recorded, TASK, replace(SPEC, image_px=(64, 64)), 2, 3, name="tiny")
