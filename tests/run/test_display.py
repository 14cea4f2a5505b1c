import logging
import re
import sys

import pytest
from support.runs import plan_of
from support.worlds import BRIDGE, write_policy

from vla_bench import catalog
from vla_bench.errors import VlaBenchError
from vla_bench.run.display import Ended, run_with_progress
from vla_bench.run.executors import Means
from vla_bench.run.executors.serial import Serial
from vla_bench.run.records import read_run

log = logging.getLogger("vla_bench.run")


class Talking(Serial):
    """One worker that says something while it plays."""

    def __init__(self):
        super().__init__(Means())

    def run(self, *arguments):
        log.info("a worker was replaced")
        yield from super().run(*arguments)


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
    assert run_with_progress(plan, tmp_path / "run", ["vla-bench", "run"]) == Ended(True, errors=0)
    told = capfd.readouterr()
    assert told.out == "", "what programs read stays clean"
    assert "4 of 4 episodes are recorded; 0 succeeded, 4 failed, 0 errors" in " ".join(told.err.split())
    assert read_run(tmp_path / "run").header.sessions[0].command == ("vla-bench", "run")
    assert run_with_progress(plan, tmp_path / "run", ["x"]) == Ended(True, errors=0)
    assert "4 of 4 episodes are done; continuing" in " ".join(capfd.readouterr().err.split())


def test_ctrl_c_stops_cleanly_and_the_same_command_continues(tmp_path, policy, capfd):
    plan = policy("KeyboardInterrupt", at=5)  # one action before the run, then two an episode
    assert run_with_progress(plan, tmp_path / "run", ["x"]) == Ended(False, errors=0)
    assert "stopped; 0 succeeded, 1 failed, 0 errors; the same command continues" in " ".join(
        capfd.readouterr().err.split()
    )
    assert len(read_run(tmp_path / "run").records) == 1
    assert run_with_progress(plan, tmp_path / "run", ["x"]) == Ended(True, errors=0)
    assert "1 of 3 episodes are done; continuing" in " ".join(capfd.readouterr().err.split())
    run = read_run(tmp_path / "run")
    assert (len(run.records), len(run.header.sessions), run.problems) == (3, 2, ())


def test_an_error_is_told_when_it_happens(tmp_path, policy, capfd):
    plan = policy("OSError('the server is gone')", at=4)
    assert run_with_progress(plan, tmp_path / "run", ["x"]) == Ended(True, errors=1)
    told = " ".join(capfd.readouterr().err.split())
    assert f"error in {BRIDGE}#seed1, own at fp32: the server is gone" in told
    assert "0 succeeded, 2 failed, 1 errors; the same command runs those with errors again" in told
    assert run_with_progress(plan, tmp_path / "run", ["x"]) == Ended(True, errors=0)
    assert "3 of 3 episodes are recorded; 0 succeeded, 3 failed, 0 errors" in " ".join(
        capfd.readouterr().err.split()
    )


def test_the_folder_of_another_study_is_refused_before_any_policy_is_made(tmp_path, policy):
    run_with_progress(
        plan_of(tasks=(BRIDGE,), policies=("noop",), episodes=1, budget={"steps": 1}), tmp_path / "run", ["x"]
    )
    with pytest.raises(VlaBenchError, match="results of another study"):
        run_with_progress(policy("OSError", at=1), tmp_path / "run", ["x"])
    assert "own_policy" not in sys.modules


def test_what_is_quiet_tells_what_went_wrong_and_the_last_line(tmp_path, policy, capfd):
    plan = policy("OSError('the server\\n\\x1b[31mis [red]gone')", at=4)
    run_with_progress(plan, tmp_path / "run", ["x"], view="quiet")
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0] == f"error in {BRIDGE}#seed1, own at fp32: the server  [31mis [red]gone"
    assert told[1].endswith("3 of 3 episodes are recorded; 0 succeeded, 2 failed, 1 errors; "
                            "the same command runs those with errors again")  # fmt: skip


def test_a_log_gets_lines_without_control_characters(tmp_path, capfd):
    plan = plan_of(tasks=(BRIDGE,), policies=("noop", "random"), episodes=2, budget={"steps": 1})
    run_with_progress(plan, tmp_path / "run", ["x"])
    told = capfd.readouterr().err
    assert all(character.isprintable() for character in told.replace("\n", ""))
    assert re.search(r"^2 of 4 episodes \(50%\), 0/2 = 0\.0% \[0\.0, 65\.8\], 0 errors, .* left$", told, re.M)
    assert "random fp32 blocking zero: 2 of 2, 0/2 = 0.0% [0.0, 65.8]" in told


def test_messages_of_a_run_appear_and_its_logger_is_as_before(tmp_path, capfd):
    plan = plan_of(tasks=(BRIDGE,), policies=("noop",), episodes=1, budget={"steps": 1})
    before = (log.level, list(log.handlers))
    run_with_progress(plan, tmp_path / "run", ["x"], Talking())
    assert "a worker was replaced" in capfd.readouterr().err.splitlines()
    assert (log.level, list(log.handlers)) == before
