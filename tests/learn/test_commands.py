"""`vla-bench demos` and `offline` as they are typed."""

from __future__ import annotations

import json

import pytest
from support.demonstrations import write_dataset
from support.worlds import python, vla_bench


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("demos") / "d")


def test_offline_compares_without_a_simulator(data):
    """Neither the policy nor the bins need MuJoCo, Gymnasium or PyTorch."""
    code = f"""
import sys
from vla_bench.cli import app
for words in (["--policy", "noop"], ["--bins"]):
    try:
        app(["offline", "--demos", {str(data)!r}, *words])
    except SystemExit as ended:
        assert not ended.code
assert not {{"mujoco", "gymnasium"}} & set(sys.modules), "a simulator was loaded"
"""
    ended = python(code)
    assert ended.returncode == 0, ended.stderr
    assert "mean distance to the demonstration" in ended.stdout
    assert "no token accuracy, agreement or divergence: its actions are not tokens" in ended.stdout
    assert "rotation_z_rad" in ended.stdout


def test_the_numbers_are_printed_and_written_as_json(data, tmp_path):
    ended = vla_bench(
        "offline", "--demos", data, "--policy", "noop", "--episodes", 2, "--every", 2, "--json", "--out",
        tmp_path / "o/n.json",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    content = json.loads(ended.stdout)
    assert content == json.loads((tmp_path / "o/n.json").read_text())
    assert content["question"]["precisions"] == ["fp32"]
    assert content["arms"][0]["observations"] == 4
    bins = json.loads(vla_bench("offline", "--demos", data, "--bins", "--json").stdout)["bins"]
    assert [row["bounds"] for row in bins] == ["q99"] * 7 + ["minmax"] * 7


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name a policy (--policy …), or ask for --bins"),
        (("--policy", "noop", "--bins"), "name a policy (--policy …), or ask for --bins"),
        (("--policy", "noob"), "unknown policy 'noob'; did you mean 'noop'?"),
        (("--policy", "noop", "--precision", "bf16"), "runs at fp32, not at 'bf16'"),
        (("--policy", "expert"), "needs the simulation's state, which no demonstration holds"),
    ],
)
def test_a_mistake_in_offline_is_one_sentence(data, words, sentence):
    ended = vla_bench("offline", "--demos", data, *words)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_demos_cache_decodes_the_cameras_that_are_named(tmp_path):
    folder = write_dataset(tmp_path / "d")
    ended = vla_bench("demos", "cache", folder, "--camera", "agentview", "--image-px", 16)
    assert ended.returncode == 0, ended.stderr
    assert "agentview (12, 16, 16, 3), 0.0 MB" in ended.stdout
    assert [path.name.partition("-")[0] for path in (folder / "decoded").glob("*.npy")] == ["agentview"]
    for words, sentence in (
        ((folder, "--camera", "top"), "no camera 'top'"),
        ((tmp_path / "none",), "no such data set"),
    ):
        ended = vla_bench("demos", "cache", *words)
        assert ended.returncode == 2
        assert sentence in ended.stderr


def test_a_mistake_in_demos_is_one_sentence(tmp_path):
    for words, sentence in (
        ((), "name what is to be recorded"),
        (("--suite", "brigde"), "unknown suite 'brigde'; did you mean 'bridge'"),
        (("--suite", "bridge", "--task-axis", "colour"), "unknown task axis 'colour'"),
        (("--suite", "franka", "--split", "odd"), "unknown split 'odd'; did you mean 'ood'"),
        (("--suite", "bridge", "--task", "libero_object/0"), "record them into different folders"),
    ):
        ended = vla_bench("demos", "--out", tmp_path / "d", *words)
        assert ended.returncode == 2
        assert sentence in ended.stderr
        assert not (tmp_path / "d").exists()
