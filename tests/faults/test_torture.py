"""Processes are killed at random, again and again, and the study comes out as if nobody had been.

`VLA_BENCH_LONG=1` plays 200 episodes and kills 200 times; `VLA_BENCH_REPORT` names a file for what happened.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from support.runs import timeless
from support.worlds import BRIDGE, command_line, environment, vla_bench, write_policy

from vla_bench import catalog, seeding
from vla_bench.run.records import decode, read_run

OTHER = "bridge_base/stack_the_green_block_on_the_yellow_block"
LONG = os.environ.get("VLA_BENCH_LONG") == "1"
EPISODES, KILLS = (50, 200) if LONG else (3, 10)  # of each of two tasks, with each of two policies
# What an answer takes on average, and the time between two kills: there must be something to disturb.
ANSWER_S, PAUSE_S = (1.0, 2.0) if LONG else (0.2, 0.5)
WHO_IS_KILLED = ("main", *3 * ("child",))
WHO = {"worker", "fingerprint"}
CODE = """
import os, time
from vla_bench import seeding
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec(chunk_length=2, proprio=("robot0_eef_pos",))

    def __init__(self, card, precision):
        pass

    def reset(self, instruction, seed):
        self.seed = seed

    def act(self, observations):
        return self.act_seeded([observations], [self.seed])[0]

    def act_seeded(self, batch, seeds):
        # whoever is fast or slow, nothing changes
        time.sleep(float(os.environ["NOISY_S"]) * (time.perf_counter_ns() // 1000 % 5) / 2)
        return [self._one(history[-1], seed) for history, seed in zip(batch, seeds)]

    def _one(self, seen, seed):
        noise = seeding.generator("policy", "noise", seed, seen.time_ns).uniform(-0.2, 0.2, (2, 7))
        noise[:, :3] -= seen.proprio["robot0_eef_pos"]
        return ActionChunk(noise)
"""


class Study:
    """The study as a command, in a folder; its processes are found by what they have inherited."""

    def __init__(self, home, folder):
        self.folder, self._mark = folder, f"TORTURED={folder}"
        self._env = environment(home, TORTURED=folder, NOISY_S=0)
        self._env[catalog.POLICIES_DIR_VARIABLE] = str(home)
        self._command = command_line(
            "run", "--task", f"{BRIDGE},{OTHER}", "--policy", "noisy,noop", "--episodes", EPISODES,
            "--budget", "steps:6", "--exact", "--workers", 2, "--out", folder,
        )  # fmt: skip
        self.starts, self.main = 0, None

    def start(self, answer_s=0.0):
        """Start the main process, again if need be."""
        self.main = subprocess.Popen(
            self._command, env={**self._env, "NOISY_S": str(answer_s)}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True, text=True,
        )  # fmt: skip
        self.starts += 1

    def end(self):
        """Wait for the end; returns the exit status and what was said."""
        return self.main.communicate(timeout=300)[1], self.main.returncode

    def processes(self):
        """Pid → `main` or `child` (a worker, or the policies), of those that are alive."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() not in (process / "environ").read_bytes().split(b"\0"):
                    continue
                words = (process / "cmdline").read_bytes()
                if b"spawn_main" in words:
                    found[int(process.name)] = "child"
                elif int(process.name) == self.main.pid:
                    found[int(process.name)] = "main"
        return found

    def lines(self):
        """The whole lines of all files, and how many bytes of torn ones there are."""
        data = [path.read_bytes().rpartition(b"\n") for path in self.folder.glob("episodes-*.jsonl")]
        whole = [decode(line) for part in data for line in (part[0] + part[1]).splitlines(keepends=True)]
        return whole, sum(len(part[2]) for part in data)


def same(records):
    """What does not depend on who played when."""
    return [{key: value for key, value in each.items() if key not in WHO} for each in timeless(records)]


def note(report):
    if "VLA_BENCH_REPORT" in os.environ:
        Path(os.environ["VLA_BENCH_REPORT"]).write_text(json.dumps(report, indent=2))


def torture(study, draw):
    """Kill somebody after a moment, so many times, and start what ended again; returns who was killed."""
    killed, wanted = Counter(), "child"
    study.start(ANSWER_S)
    while killed.total() < KILLS:
        time.sleep(draw.exponential(PAUSE_S))
        if study.main.poll() is not None:
            said, status = study.end()
            # 2: the policies were killed so often while they were loaded that the run ended in a sentence
            assert status in (0, -signal.SIGKILL) or "the process of the policies ended" in said, said
            if status == 0 and len(read_run(study.folder).records) == 4 * EPISODES:
                break  # everything was played before all were killed
            study.start(ANSWER_S)
            continue
        alive = [pid for pid, who in sorted(study.processes().items()) if who == wanted]
        if alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(alive[draw.integers(len(alive))], signal.SIGKILL)
                killed[wanted] += 1
            wanted = WHO_IS_KILLED[draw.integers(len(WHO_IS_KILLED))]
            note({"killed": killed, "starts": study.starts})
    return killed


def test_whoever_is_killed_and_when_every_episode_is_there_once_and_as_if_nothing_had_happened(tmp_path):
    write_policy(tmp_path / "home", "noisy", CODE, chunk_predicted=2, chunk_executed=2)
    calm, study = (Study(tmp_path / "home", tmp_path / name) for name in ("calm", "tortured"))
    calm.start()
    said, status = calm.end()
    assert status == 0, said
    began = time.monotonic()
    killed = torture(study, seeding.generator("statistics", "torture", KILLS))
    if study.main.poll() is None:
        study.end()
    study.start()
    said, status = study.end()
    assert status == 0, said
    whole, torn = study.lines()
    report = {
        "killed": killed, "starts": study.starts, "seconds": time.monotonic() - began,
        "lines": len(whole), "errors": [x.error.message for x in whole if x.error], "torn_bytes": torn,
    }  # fmt: skip
    note(report)
    played = Counter(record.key for record in whole if record.status != "error")
    assert set(played.values()) == {1}, "nothing is played to the end twice"
    found = read_run(study.folder)
    assert found.problems == ()
    assert torn == 0, "what was torn was dropped when the next one continued"
    assert len(found.records) == len(played) == 4 * EPISODES
    assert same(found.records) == same(read_run(calm.folder).records)
    assert found.superseded == len(whole) - len(played), "only errors are played again"
    assert study.processes() == {}
    checked = vla_bench("verify", study.folder, "--sample", 2, env=study._env)
    assert checked.returncode == 0, checked.stdout + checked.stderr
