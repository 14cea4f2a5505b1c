"""A policy that does to its process what a file says, at chosen episodes, so many times."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from support.worlds import write_policy
from vla_bench import catalog
from vla_bench.run.conventions import policy_seed
from vla_bench.types import Episode

CODE = """
import ctypes, os, pathlib, signal, time
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

TRAPS = pathlib.Path(os.environ["TRAPS"])
DOES = {
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "abort": lambda: os.abort(),  # as graphics drivers do
    "memory": lambda: bytearray(1 << 60),
    "hang": lambda: ctypes.PyDLL(None).sleep(1000),  # in foreign code, and nobody else gets a turn
}

class Made:
    spec = PolicySpec()

    def __init__(self, card, precision):
        pass

    def reset(self, instruction, seed):
        self.seed, self.calls = seed, 0

    def act(self, observations):
        self.calls += 1
        trap = TRAPS / str(self.seed)
        if self.calls == 2 and trap.exists():
            kind, _, left = trap.read_text().partition(" ")
            if int(left) > 1:
                trap.write_text(f"{kind} {int(left) - 1}")
            else:
                trap.unlink()
            DOES[kind]()
        time.sleep((time.perf_counter_ns() // 1000 % 5) / 500)  # whoever is fast or slow, nothing changes
        return ActionChunk(np.full((1, 7), 1e-3 * (self.seed % 1000)))
"""


class Traps:
    """The policy `trapped`, and what happens to it.

    Args:
        folder: Where its files go.
        monkeypatch: Of the test.
    """

    def __init__(self, folder: Path, monkeypatch) -> None:
        self._folder = folder / "traps"
        self._folder.mkdir()
        write_policy(folder / "policies", "trapped", CODE)
        monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(folder / "policies"))
        monkeypatch.syspath_prepend(str(folder / "policies"))
        path = os.pathsep.join([str(folder / "policies"), os.environ.get("PYTHONPATH", "")])
        monkeypatch.setenv("PYTHONPATH", path)
        monkeypatch.delitem(sys.modules, "trapped_policy", raising=False)  # it knows the traps of before
        monkeypatch.setenv("TRAPS", str(self._folder))

    def set(self, episode: Episode, kind: str, times: int = 1) -> None:
        """Let something happen in an episode: a key of `DOES`."""
        (self._folder / str(policy_seed(episode))).write_text(f"{kind} {times}")
