"""`vla-bench train` and `finetune` from end to end, and what a kill costs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.training import TABLE, config, demonstrations, trained
from support.worlds import command_line, environment, vla_bench
from typer.testing import CliRunner

from vla_bench.cli import app
from vla_bench.errors import VlaBenchError
from vla_bench.learn.training import state
from vla_bench.learn.training.curve import read_curve
from vla_bench.learn.training.session import write_policy
from vla_bench.policy.tensors import SINGLE

TASK = "bridge_base/lift_the_carrot"
ALONE = environment(OMP_NUM_THREADS=1)  # as in support.training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return demonstrations(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def architecture(tmp_path_factory):
    """The tiny architecture as a file."""
    path = tmp_path_factory.mktemp("architecture") / "tiny.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in TABLE.items() if not isinstance(value, dict)]
    for name, table in TABLE.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path.write_text("\n".join(lines))
    return path


def test_a_trained_policy_is_finetuned_evaluated_on_select_seeds_and_run(data, architecture, tmp_path):
    more = demonstrations(tmp_path / "more", episodes=1)
    made = vla_bench(
        "train", "--architecture", architecture, "--data", f"{data},{more}", "--out", tmp_path / "new",
        "--max-steps", 2, "--save-every", 1, "--keep", 1, "--json", env=ALONE,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["ended_by"], told["step"]) == ("max_steps", 2)
    assert told["trained_parameters"] == told["parameters"] > 150_000
    assert len(list((tmp_path / "new/checkpoints").iterdir())) == 1
    further = vla_bench(
        "finetune", "--policy", tmp_path / "new", "--strategy", "lora", "--rank", 4, "--data", data,
        "--out", tmp_path / "lora", "--max-steps", 2, "--evaluate-every", 2, "--task", TASK, "--episodes", 1,
        "--json", env=ALONE,
    )  # fmt: skip
    assert further.returncode == 0, further.stderr
    told = json.loads(further.stdout)
    assert told["trained_parameters"] < told["parameters"] / 5
    (evaluation,) = told["evaluations"]
    assert (evaluation["task"], evaluation["episodes"], evaluation["errors"]) == (TASK, 1, 0)
    header = json.loads((tmp_path / "lora/evaluations/step-00000002/run/run.json").read_text())
    assert header["study"]["namespace"] == "select"
    run = vla_bench(
        "--policies-dir", tmp_path / "lora", "run", "--task", TASK, "--policy", "tiny-lora", "--episodes", 1,
        "--budget", "steps:2", "--out", tmp_path / "run",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_a_training_that_is_killed_continues_as_if_it_had_not_been(data, architecture, tmp_path):
    def command(out, steps):
        return [
            "train", "--architecture", architecture, "--data", data, "--out", out, "--save-every", 2,
            "--max-steps", steps,
        ]  # fmt: skip

    killed = subprocess.Popen(command_line(*command(tmp_path / "killed", 10**6)), env=ALONE)
    deadline = time.monotonic() + 120
    while state.newest(tmp_path / "killed") is None and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    reached = int(state.newest(tmp_path / "killed").name.removeprefix("step-"))
    for folder in ("killed", "through"):
        ended = vla_bench(*command(tmp_path / folder, reached + 3), env=ALONE)
        assert ended.returncode == 0, ended.stderr
    weights = [(tmp_path / folder / "policy" / SINGLE).read_bytes() for folder in ("killed", "through")]
    assert weights[0] == weights[1]


def test_two_processes_train_what_one_trains_and_go_on_where_it_stopped(data, architecture, tmp_path):
    """Up to the order of additions: the passes of a step are shared out, and their gradients added up."""
    how = config(batch=2, accumulate=2, holdout=3)
    trained(data, tmp_path / "one", 2, how)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    trained(data, tmp_path / "one", 5, how)
    together = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "-m", "vla_bench.cli", "train",
        "--architecture", architecture, "--data", data, "--out", tmp_path / "two", "--batch", 2,
        "--accumulate", 2, "--precision", "fp32", "--holdout", 3, "--max-steps", 5,
    ]  # fmt: skip
    ended = subprocess.run([*map(str, together)], env=ALONE, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("max_steps at step 5") == 1, "one of them tells"
    one, two = (load_file(tmp_path / name / "checkpoints/step-00000005" / SINGLE) for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=2e-4)
    curves = [read_curve(tmp_path / name)[-1] for name in ("one", "two")]
    for column in ("samples", "loss", "token_accuracy", "gradient_norm", "held_out_loss"):
        assert float(curves[0][column]) == pytest.approx(float(curves[1][column]), rel=1e-3)


def test_ctrl_c_leaves_a_checkpoint(data, architecture, tmp_path):
    command = [
        "train",
        "--architecture",
        architecture,
        "--data",
        data,
        "--out",
        tmp_path,
        "--max-steps",
        10**6,
    ]
    running = subprocess.Popen(
        command_line(*command),
        env=ALONE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "curve.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "the same command continues" in said
    assert state.newest(tmp_path) is not None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "--max-steps or --max-minutes"),
        (["--max-steps", "1", "--evaluate-every", "1"], "something to play"),
        (
            ["--max-steps", "1", "--evaluate-every", "1", "--task", "robosuite/0"],
            "was recorded at 5 Hz, robosuite/",
        ),
        (
            ["--max-steps", "1", "--config", "wrong.toml"],
            "unknown table 'trainings'; did you mean 'training'",
        ),
        (["--max-steps", "1", "--precision", "fp8"], "training.precision = 'fp8'"),
        (["--max-steps", "1", "--architecture", "nano-openvlb"], "did you mean 'nano-openvla"),
    ],
)
def test_a_mistake_is_a_sentence(data, tmp_path, monkeypatch, flags, expected):
    monkeypatch.chdir(tmp_path)
    Path("wrong.toml").write_text("[trainings]\nbatch = 3\n")
    ended = CliRunner().invoke(app, ["train", "--data", str(data), "--out", "out", *flags])
    assert isinstance(ended.exception, VlaBenchError)
    assert expected in str(ended.exception)
    assert not Path("out").exists()


def test_data_that_are_older_than_what_is_held_out_need_a_word(tmp_path, monkeypatch):
    data = demonstrations(tmp_path / "d")
    (data / "meta/held_out.json").write_text('{"visual/fog.toml": "as it was", "visual/gone.toml": "so"}')
    command = ["train", "--data", str(data), "--out", str(tmp_path / "out"), "--max-steps", "1"]
    ended = CliRunner().invoke(app, command)
    assert "changed visual/fog.toml; removed visual/gone.toml" in str(ended.exception)
    assert not (tmp_path / "out").exists()
    # with it, the next question is asked: this one is of the architecture's pictures
    ended = CliRunner().invoke(app, [*command, "--held-out-changed", "--device", "none"])
    assert "device 'none' cannot be used" in str(ended.exception)


def test_a_folder_without_a_card_is_no_policy(data, tmp_path):
    flags = ["--policy", str(tmp_path), "--data", str(data), "--out", str(tmp_path / "o"), "--max-steps", "1"]
    ended = CliRunner().invoke(app, ["finetune", *flags])
    assert "should hold the card of one policy, found none" in str(ended.exception)


def test_ways_of_finetuning_are_trained_in_turns_played_and_stand_beside_the_papers(data, tmp_path):
    session, ended = trained(data, tmp_path / "base", 1)
    write_policy(session, ended.progress.step, ("fp32",))
    command = (
        "bench", "finetuning", "--policy", tmp_path / "base", "--data", data, "--out", tmp_path / "out",
        "--strategy", "full,lora", "--rank", 4, "--batch", 2, "--max-steps", 4, "--turns", 1, "--task", TASK,
        "--episodes", 1, "--json",
    )  # fmt: skip
    made = vla_bench(*command, env=ALONE)
    assert made.returncode == 0, made.stderr
    full, lora = json.loads(made.stdout)
    assert (full["n"] + full["errors"], full["errors"], full["step_ratio"]) == (1, 0, 1.0)
    assert lora["trained"] < full["trained"] / 5
    assert lora["peak_bytes"] > lora["idle_bytes"] > 10**7
    assert (full["paper_success_percent"], lora["paper_success_percent"]) == (69.7, None), "of another rank"
    header = json.loads((tmp_path / "out/run/run.json").read_text())
    assert header["study"]["namespace"] == "eval"
    assert "| full " in (tmp_path / "out/finetuning.md").read_text()
