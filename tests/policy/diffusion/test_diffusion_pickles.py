"""Files that want to be executed, to fill the memory, or never to end: refused, and nothing happens.

The corpus is written here; every member is tried bare and as a checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import struct
import tracemalloc
import zipfile

import pytest
import torch
from support.diffusion import write_official

from vla_bench.errors import DataError
from vla_bench.policy.diffusion.archive import read_archive
from vla_bench.policy.diffusion.hydra import Configuration
from vla_bench.policy.diffusion.official import read_official
from vla_bench.policy.diffusion.pickles import MAX_DEPTH, Record, RefusedError, read_pickle

TOUCH = "touch {path}"


class Reduced:
    """Is pickled as a call."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def executing(command: str) -> dict[str, bytes]:
    """Pickles that run a command when Python reads them."""
    import os
    import subprocess

    written = f"__import__('os').system({command!r})"
    return {
        "reduce": pickle.dumps(Reduced(os.system, command), 2),
        "reduce protocol 0": pickle.dumps(Reduced(os.system, command), 0),
        "reduce protocol 5": pickle.dumps(Reduced(os.system, command), 5),
        "eval": pickle.dumps(Reduced(eval, written), 2),
        "exec": pickle.dumps(Reduced(exec, written), 2),
        "process": pickle.dumps(Reduced(subprocess.Popen, ["sh", "-c", command]), 2),
        "within a table": pickle.dumps({"cfg": [Reduced(os.system, command)]}, 2),
        "global": b"\x80\x02cposix\nsystem\n" + text(command) + b"\x85R.",
        "global of python 2": b"\x80\x02c__builtin__\neval\n" + text(written) + b"\x85R.",
        "stack global": b"\x80\x04" + text("os") + text("system") + b"\x93" + text(command) + b"\x85R.",
        "instance": b"(" + b"S" + repr(command).encode() + b"\nios\nsystem\n.",
        "object": b"(cos\nsystem\n" + text(command) + b"o.",
        "new object": b"\x80\x02csubprocess\nPopen\n(" + text(command) + b"t\x81.",
        "new object with names": b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93)}\x92.",
        "state": b"\x80\x02cos\nsystem\n}" + text("a") + text(command) + b"sb.",
        "import": b"\x80\x02cimportlib\nimport_module\n" + text("antigravity") + b"\x85R.",
        "attribute": b"\x80\x02cbuiltins\ngetattr\ncos\npath\n" + text("join") + b"\x86R.",
        "dots in a name": b"\x80\x04" + text("os") + text("path.join") + b"\x93" + text("a") + b"\x85R.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent object": b"\x80\x02" + text("storage") + b"Q.",
        "persistent by text": b"Pcos\n.",
        "code of torch": b"\x80\x02ctorch\nload\n" + text("/etc/passwd") + b"\x85R.",
        "out of band": b"\x80\x05\x97.",
    }  # fmt: skip


def unending() -> dict[str, bytes]:
    """Pickles that announce or build more than there is."""
    laughing = (
        b"\x80\x02)" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(200)) + b"."
    )
    return {
        "long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a.",
        "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"a.",
        "byte array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.",
        "long number": b"\x80\x02\x8b" + struct.pack("<i", 10_000) + b"\x7f" * 10_000 + b".",
        "number of negative length": b"\x80\x02\x8b" + struct.pack("<i", -1) + b".",
        "far memory without anything": b"\x80\x02r\xff\xff\xff\x7f.",
        "unknown memory": b"\x80\x02h\x07.",
        "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
        "deep marks": b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
        "laughing": laughing,
        "deep key": b"\x80\x02})" + b"\x85" * 1000 + b"Ns.",
        "long key": b"\x80\x02}(" + b"N" * 1000 + b"tNs.",
        "many objects": b"\x80\x02" + b"N" * 2_100_000 + b".",
        "nothing": b"",
        "no end": b"\x80\x02N",
        "two objects": b"\x80\x02NN.",
        "only a mark": b"\x80\x02(.",
        "nothing to call": b"\x80\x02R.",
        "list that is a table": b"\x80\x02]" + text("a") + b"Ns.",
        "odd table": b"\x80\x02}(Nu.",
        "leaves itself twice": b"\x80\x02]q\x00h\x00ah\x00.",
    }  # fmt: skip


def as_checkpoint(path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(16))


@pytest.mark.parametrize("name", executing(TOUCH))
def test_nothing_is_executed(name, tmp_path):
    pickled = executing(TOUCH.format(path=tmp_path / "touched"))[name]
    path = tmp_path / "bad.ckpt"
    as_checkpoint(path, pickled)
    with pytest.raises(RefusedError):
        read_pickle(pickled)
    with pytest.raises(DataError, match=r"bad\.ckpt: refused, "):
        read_official(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("name", "named"),
    [("reduce", "posix.system"), ("eval", "eval"), ("new object", "subprocess.Popen"),
     ("stack global", "os.system"), ("code of torch", "torch.load"), ("import", "importlib.import_module")],
)  # fmt: skip
def test_what_is_refused_is_named(name, named):
    with pytest.raises(RefusedError, match=rf"names '.*{named}', which no checkpoint"):
        read_pickle(executing("true")[name])


@pytest.mark.parametrize("name", unending())
def test_nothing_fills_the_memory_or_never_ends(name, tmp_path):
    pickled = unending()[name]
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError):
            read_pickle(pickled)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000_000, "in proportion to the instructions"
    path = tmp_path / "bad.ckpt"
    as_checkpoint(path, pickled)
    with pytest.raises(DataError, match="refused"):
        read_archive(path)


def test_what_configurations_are_made_of_becomes_records_that_do_nothing():
    found = read_pickle(
        b"\x80\x02cdill._dill\n_create_function\n" + text("code") + b"\x85R}" + text("a") + b"K\x01sb."
    )
    assert isinstance(found, Record)
    assert (found.name, found.arguments, found.state) == ("dill._dill._create_function", ("code",), {"a": 1})
    assert read_pickle(pickle.dumps({"a": [1, 2.5, None, True, "b", (1, 2)]}, 2)) == {
        "a": [1, 2.5, None, True, "b", (1, 2)]
    }


def test_texts_that_would_be_converted_again_and_again_are_not_converted():
    """Each `encode` would be a new copy of a long text."""
    once = b"c_codecs\nencode\nq\x01" + text("x" * 1_000_000) + b"q\x02" + text("latin1") + b"q\x03\x87q\x04"
    again = b"h\x01h\x02h\x03\x86R" * 1000
    tracemalloc.start()
    found = read_pickle(b"\x80\x02]q\x00(" + once + again + b"eq\x05.")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 1001
    assert most < 10_000_000


def test_a_depth_that_checkpoints_have_is_read_and_a_greater_one_is_not():
    def nested(depth: int) -> bytes:
        return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."

    assert read_pickle(nested(MAX_DEPTH)) is not None
    with pytest.raises(RefusedError, match=f"nested more than {MAX_DEPTH} deep"):
        read_pickle(nested(MAX_DEPTH + 1))


def node(value) -> Record:
    content = {key: node(each) for key, each in value.items()} if isinstance(value, dict) else None
    return Record("omegaconf", (), {"_val": value} if content is None else {"_content": content})


def test_references_are_followed_and_sums_computed():
    configuration = Configuration(node({
        "n": 8, "m": 3, "task": {"meta": {"a": "${n}"}}, "meta": "${task.meta}", "through": "${meta.a}",
        "sum": "${eval:'${n}-1+${m}'}", "other": "${eval:'__import__(\"os\")'}", "now": "${now:%Y}",
    }))  # fmt: skip
    assert configuration.get("meta") == {"a": 8}
    assert configuration.get("through") == configuration.get("meta.a") == 8
    assert configuration.get("sum") == 10
    assert configuration.get("other") == "${eval:'__import__(\"os\")'}"
    assert configuration.get("now") == "${now:%Y}"
    assert configuration.get("nowhere.at.all") is None


@pytest.mark.parametrize(
    "table",
    [
        {"a": "${a}"}, {"a": "${b}", "b": "${a}"}, {"a": "${b.x}", "b": "${a.x}"}, {"a": {"b": "${a}"}},
        {"a": "${x0}", **{f"x{i}": {str(j): f"${{x{i + 1}}}" for j in range(10)} for i in range(9)}, "x9": 1},
    ],
)  # fmt: skip
def test_references_in_circles_or_without_end_are_refused(table):
    with pytest.raises(RefusedError, match="too large or refers to itself"):
        Configuration(node(table)).get("a")


def test_a_configuration_that_contains_itself_is_refused():
    endless = Record("omegaconf", (), {})
    endless.state = {"_content": {"a": endless}}
    with pytest.raises(RefusedError, match="too large or refers to itself"):
        Configuration(endless)


def tensor(size: tuple, stride: tuple, offset: int = 0, length: int = 4, key: str = "0") -> bytes:
    """A checkpoint's pickle with one tensor in an array of 16 bytes."""

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, key, "cpu", length) if isinstance(obj, Stored) else None

    buffer = io.BytesIO()
    view = Reduced(torch._utils._rebuild_tensor_v2, Stored(), offset, size, stride, False, {})
    Pickler(buffer, 2).dump({"w": view})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (5,), "stride": (1,)}, "reaches beyond its array of 16 bytes"),
        ({"size": (2,), "stride": (1 << 50,)}, "reaches beyond"),
        ({"size": (2,), "stride": (1,), "offset": 3}, "reaches beyond"),
        ({"size": (2,), "stride": (1,), "offset": -1}, "described wrongly"),
        ({"size": (-2,), "stride": (1,)}, "described wrongly"),
        ({"size": (2, 2), "stride": (1,)}, "described wrongly"),
        ({"size": (1,) * 9, "stride": (1,) * 9}, "described wrongly"),
        ({"size": (True,), "stride": (1,)}, "described wrongly"),
        ({"size": (4,), "stride": (1,), "length": 5}, "has 16 bytes, its pickle says 20"),
        ({"size": (4,), "stride": (1,), "key": "9"}, "has no array '9'"),
    ],
)
def test_tensors_lie_within_their_arrays(arguments, message, tmp_path):
    path = tmp_path / "bad.ckpt"
    as_checkpoint(path, tensor(**arguments))
    archive = read_archive(path)
    with pytest.raises(DataError, match=message):
        archive.tensors(archive.content, "state")


def test_a_huge_view_of_few_numbers_is_not_made(tmp_path):
    """Its shape is compared with the network's before anything is read."""
    path = tmp_path / "bad.ckpt"
    as_checkpoint(path, tensor((1 << 20, 1 << 20), (0, 0)))
    archive = read_archive(path)
    (found,) = archive.tensors(archive.content, "state").values()
    assert found.shape == (1 << 20, 1 << 20)


def test_views_are_read_as_torch_reads_them(tmp_path):
    whole = torch.arange(24, dtype=torch.int64).reshape(2, 3, 4)
    state = {"whole": whole, "turned": whole.permute(2, 0, 1), "part": whole[1:, ::2], "none": whole[:0],
             "wide": whole[0, 0, 1].expand(3, 2), "number": torch.tensor(2.5),
             "half": torch.ones(3).bfloat16()}  # fmt: skip
    torch.save(state, tmp_path / "views.ckpt")
    archive = read_archive(tmp_path / "views.ckpt")
    for name, found in archive.tensors(archive.content, "state").items():
        assert torch.equal(found.read(), state[name]), name
        assert found.dtype == state[name].dtype


@pytest.mark.parametrize(
    "case", ["compressed", "two pickles", "twice", "no pickle", "bare", "empty", "legacy"]
)
def test_other_files_are_refused(case, tmp_path):
    path = tmp_path / "bad.ckpt"
    if case == "compressed":
        as_checkpoint(path, bytes(50_000_000), zipfile.ZIP_DEFLATED)
    elif case == "legacy":
        torch.save({"cfg": 1}, path, _use_new_zipfile_serialization=False)
    elif case in ("bare", "empty"):
        path.write_bytes(pickle.dumps({"cfg": 1}) if case == "bare" else b"")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            names = {"two pickles": ["a/data.pkl", "b/data.pkl"], "no pickle": ["a/data/0"]}
            for name in names.get(case, ["a/data.pkl", "a/data/0", "a/data/0"]):
                archive.writestr(name, b"\x80\x02N.")
    with pytest.raises(DataError, match=r"refused|is no file of torch\.save"):
        read_archive(path)


def test_a_damaged_checkpoint_is_refused_or_read_but_never_more(tmp_path):
    """Bytes of a real one are exchanged at random, and it is cut anywhere."""
    whole = write_official(tmp_path / "whole.ckpt").read_bytes()
    drawn, path = random.Random(0), tmp_path / "damaged.ckpt"
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as archive:
        pickled = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    for _ in range(300):
        damaged = bytearray(pickled)
        for _ in range(drawn.randint(1, 8)):
            damaged[drawn.randrange(len(damaged))] = drawn.randrange(256)
        with contextlib.suppress(RefusedError):
            read_pickle(bytes(damaged))
    for cut in (0, 1, 30, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            read_official(path)
