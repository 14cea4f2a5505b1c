import numpy as np
import pytest

from vla_bench.errors import ConventionError, DataError, MissingCapabilityError, MissingDataError
from vla_bench.policy.base import act_batch
from vla_bench.policy.cards import load_policy
from vla_bench.policy.scripted.simple import read_actions

ACTIONS = np.linspace(-1, 1, 21).reshape(3, 7)


def acts(policy, n, seed=0):
    policy.reset("do something", seed)
    return np.concatenate([policy.act([]).actions for _ in range(n)])


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "a.npz", actions=ACTIONS, other=np.zeros(2))
    return tmp_path / "a.npz"


def test_noop_stands_still_with_an_open_gripper():
    assert np.array_equal(acts(load_policy("noop"), 2), [[0, 0, 0, 0, 0, 0, -1]] * 2)


def test_random_is_uniform_and_follows_its_seed_alone():
    policy, another = load_policy("random"), load_policy("random")
    drawn = acts(policy, 500, seed=3)
    assert np.array_equal(drawn, acts(another, 500, seed=3))
    assert np.array_equal(drawn, acts(policy, 500, seed=3)), "a reset forgets what was drawn"
    assert not np.array_equal(drawn[:2], acts(policy, 2, seed=4))
    assert np.abs(drawn).max() <= 1
    assert np.abs(drawn.mean(axis=0)).max() < 0.1
    assert drawn.std(axis=0) == pytest.approx(1 / np.sqrt(3), rel=0.1)


def test_replay_repeats_its_file_then_stands_still_with_the_last_gripper_command(file):
    policy = load_policy(f"replay:{file}")
    for _ in range(2):
        made = acts(policy, 5)
        assert np.array_equal(made[:3], ACTIONS)
        assert np.array_equal(made[3:], [[0, 0, 0, 0, 0, 0, ACTIONS[-1, 6]]] * 2)
    policy.reset("", 0)
    policy.act([]).actions[:] = 9
    assert np.array_equal(acts(policy, 1), ACTIONS[:1]), "nobody can change what is replayed"


def test_replay_needs_a_file():
    with pytest.raises(ConventionError, match=r"policy 'replay' needs a file of actions: replay:FILE\.npz"):
        load_policy("replay")


def test_files_that_hold_no_actions_are_refused(tmp_path, file):
    whole = file.read_bytes()
    contents = {
        "cut.npz": whole[: len(whole) // 2],
        "empty.npz": b"",
        "text.npz": b"hello",
        "zip.npz": b"PK\x03\x04" + b"\0" * 40,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: is not an \.npz file of actions"):
            load_policy(f"replay:{tmp_path / name}")
    with pytest.raises(MissingDataError, match=r"none\.npz: no such file of actions"):
        load_policy(f"replay:{tmp_path}/none.npz")
    with pytest.raises(DataError, match="is not an"):
        load_policy(f"replay:{tmp_path}")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"commands": ACTIONS}, "has no array 'actions'; it has commands"),
        (
            {"actions": np.zeros((3, 8))},
            r"'actions' is float64 of shape \(3, 8\), expected numbers of shape \(T, 7\)",
        ),
        ({"actions": np.zeros(7)}, r"of shape \(7,\), expected"),
        ({"actions": np.zeros((0, 7))}, r"of shape \(0, 7\), expected"),
        ({"actions": np.full((1, 7), "a")}, r"'actions' is <U1 of shape"),
        ({"actions": np.array([[None] * 7])}, "Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_are_no_actions_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_actions(tmp_path / "a.npz", 7)


def test_whole_numbers_are_actions_too(tmp_path):
    np.savez(tmp_path / "a.npz", actions=np.ones((2, 7), dtype=int))
    assert read_actions(tmp_path / "a.npz", 7).dtype == np.float64


def test_a_policy_of_one_episode_serves_no_batch():
    with pytest.raises(MissingCapabilityError, match="Noop serves one episode at a time"):
        act_batch(load_policy("noop"), [[], []])
