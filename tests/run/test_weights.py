import hashlib
import os
import sys

import pytest
from support.runs import plan_of, run
from support.worlds import BRIDGE, write_policy

from vla_bench import catalog
from vla_bench.policy import hub
from vla_bench.policy.cards import load_policy
from vla_bench.run import weights
from vla_bench.run.executors import Means, make_executor
from vla_bench.run.provenance import device_used, driver_version
from vla_bench.run.records import read_header
from vla_bench.run.weights import file_digests

ADAPTER = """
import numpy as np
from vla_bench.policy import hub
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec()

    def __init__(self, card, precision):
        hub.card_folder(card, ("*.safetensors", "config.json"))

    def reset(self, instruction, seed):
        pass

    def act(self, observations):
        return self.act_seeded([observations], [0])[0]

    def act_seeded(self, batch, seeds):
        return [ActionChunk(np.zeros((1, 7))) for _ in batch]
"""
EXPECTED = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.safetensors", "config.json")}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A policy that is loaded from two of the three files of a folder."""
    write_policy(tmp_path, "mine", ADAPTER)
    with (tmp_path / "mine.toml").open("a") as card:
        card.write('[checkpoint]\nfolder = "weights"\n')
    (tmp_path / "weights").mkdir()
    for name in (*EXPECTED, "optimizer.pt"):
        (tmp_path / "weights" / name).write_bytes(name.encode())
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delitem(sys.modules, "mine_policy", raising=False)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_the_files_that_a_policy_reads_are_noted_and_no_others(mine):
    with hub.noting() as taken:
        load_policy("mine")
    assert file_digests(taken) == EXPECTED
    with hub.noting() as nothing:
        load_policy("noop")
    assert nothing == []
    load_policy("mine")
    assert len(taken) == 1, "the block is over"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_says_which_files_its_policies_were_loaded_from(mine, tmp_path, workers):
    plan = plan_of(tasks=(BRIDGE,), policies=("mine", "noop"), episodes=1, budget={"steps": 2})
    run(plan, tmp_path / "run", executor=make_executor(None, Means(workers)))
    session = read_header(tmp_path / "run").sessions[-1]
    assert session.checkpoints == {"mine": EXPECTED}
    assert session.device, "the processor, where no policy computes on a GPU"
    assert session.driver is None


def test_the_same_path_in_two_checkpoints_is_told_apart_where_the_files_differ(tmp_path):
    for folder, content in (("one", b"1"), ("two", b"2"), ("three", b"1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_bytes(content)
    taken = [hub.Taken(tmp_path / folder, ("*.json",)) for folder in ("one", "two", "three")]
    assert file_digests(taken) == {"config.json": sha256(b"1"), "two/config.json": sha256(b"2")}


def test_a_file_is_read_again_only_when_it_changed(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"one")
    assert weights.digest_of(file) == sha256(b"one")
    reads = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: reads.append(args) or real(*args))
    assert weights.digest_of(file) == sha256(b"one")
    assert reads == []
    file.write_bytes(b"other")
    assert weights.digest_of(file) == sha256(b"other")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build", "570.86.10"),
        ("something else", None),
        (None, None),
    ],
)  # fmt: skip
def test_the_driver_is_what_its_module_says(tmp_path, text, version):
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert driver_version(tmp_path / "version") == version


def test_without_a_gpu_the_processor_stays_the_device():
    assert device_used(["cpu", "cpu"]) == {}
