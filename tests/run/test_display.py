import sys

import pytest
from support.runs import plan_of
from support.worlds import BRIDGE, write_policy

from vla_bench import catalog
from vla_bench.run.display import run_with_progress
from vla_bench.run.records import read_run

POLICY = """
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec()
    acted = 0
    def __init__(self, card, precision):
        pass
    def reset(self, instruction, seed):
        pass
    def act(self, observations):
        Made.acted += 1
        if Made.acted == {at}:
            raise {error}
        return ActionChunk(np.zeros((1, 7)))
"""


@pytest.fixture
def policy(tmp_path, monkeypatch):
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_policy", raising=False)

    def writing(error, at):
        write_policy(tmp_path, "own", POLICY.format(error=error, at=at))
        return plan_of(tasks=(BRIDGE,), policies=("own",), episodes=3, budget={"steps": 2})

    return writing


def test_progress_and_totals_are_told(tmp_path, capfd):
    plan = plan_of(tasks=(BRIDGE,), policies=("noop", "random"), episodes=2, budget={"steps": 1})
    assert run_with_progress(plan, tmp_path / "run", ["vla-bench", "run"]) is True
    told = capfd.readouterr()
    assert told.out == "", "what programs read stays clean"
    assert "4 of 4 episodes are recorded; 0 succeeded, 4 failed, 0 errors" in " ".join(told.err.split())
    assert read_run(tmp_path / "run").header.sessions[0].command == ("vla-bench", "run")
    assert run_with_progress(plan, tmp_path / "run", ["x"]) is True
    assert "4 of 4 episodes are done; continuing" in " ".join(capfd.readouterr().err.split())


def test_ctrl_c_stops_cleanly_and_the_same_command_continues(tmp_path, policy, capfd):
    plan = policy("KeyboardInterrupt", at=5)  # one action before the run, then two an episode
    assert run_with_progress(plan, tmp_path / "run", ["x"]) is False
    assert "stopped; 0 succeeded, 1 failed, 0 errors; the same command continues" in " ".join(
        capfd.readouterr().err.split()
    )
    assert len(read_run(tmp_path / "run").records) == 1
    assert run_with_progress(plan, tmp_path / "run", ["x"]) is True
    assert "1 of 3 episodes are done; continuing" in " ".join(capfd.readouterr().err.split())
    run = read_run(tmp_path / "run")
    assert (len(run.records), len(run.header.sessions), run.problems) == (3, 2, ())


def test_an_error_is_told_when_it_happens(tmp_path, policy, capfd):
    plan = policy("OSError('the server is gone')", at=4)
    assert run_with_progress(plan, tmp_path / "run", ["x"]) is True
    told = " ".join(capfd.readouterr().err.split())
    assert f"error in {BRIDGE}#seed1, own at fp32: the server is gone" in told
    assert "0 succeeded, 2 failed, 1 errors" in told
