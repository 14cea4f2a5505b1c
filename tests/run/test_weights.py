import hashlib

import pytest
from support.worlds import write_policy

from vla_bench import catalog
from vla_bench.policy import hub
from vla_bench.policy.cards import load_policy
from vla_bench.run import weights
from vla_bench.run.provenance import device_used, driver_version
from vla_bench.run.weights import file_digests

ADAPTER = """
from vla_bench.policy import hub
from vla_bench.policy.cards import read_card, factory

def Made(card, precision):
    hub.card_folder(card, ("*.safetensors", "config.json"))
    return factory(read_card("noop"))(read_card("noop"), "fp32")
"""


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_the_files_that_a_policy_reads_are_noted_and_no_others(tmp_path, monkeypatch):
    write_policy(tmp_path, "mine", ADAPTER, adapter="mine_policy:Made")
    with (tmp_path / "mine.toml").open("a") as card:
        card.write('[checkpoint]\nfolder = "weights"\n')
    (tmp_path / "weights").mkdir()
    for name in ("a.safetensors", "config.json", "optimizer.pt"):
        (tmp_path / "weights" / name).write_bytes(name.encode())
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    with hub.noting() as taken:
        load_policy("mine")
    expected = {name: sha256(name.encode()) for name in ("a.safetensors", "config.json")}
    assert file_digests(taken) == expected
    with hub.noting() as nothing:
        load_policy("noop")
    assert nothing == []
    load_policy("mine")
    assert len(taken) == 1, "the block is over"


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
