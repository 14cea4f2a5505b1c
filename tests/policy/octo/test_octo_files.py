"""Files of checkpoints: what is read from them, and what is said of broken and hostile ones."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.octo import nested, packed, write_zarr

from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError
from vla_bench.policy.octo.flax import flax_tensors
from vla_bench.policy.octo.packed import PackedArray, packed_leaves
from vla_bench.policy.octo.stores import ocdbt_array, zarr_array
from vla_bench.policy.tensors import read_at

WHOLE = packed(
    {
        "a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "flag": True},
        "b": "text",
        "n": -7,
        "x": 0.5,
    }
)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "checkpoint"
    path.write_bytes(content)
    return path


def read_or_refused(path: Path) -> str:
    """The refusal, or the path where everything can be read."""
    try:
        for leaf in packed_leaves(path).values():
            if isinstance(leaf, PackedArray):
                read_at(path, leaf.start, leaf.shape, leaf.dtype)
    except DataError as error:
        return str(error)
    return str(path)


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from(["float64", "float32", "float16", "int64", "int32", "uint8", "bool"]),
    depth=st.integers(0, 5),
)
def test_an_array_of_any_shape_and_type_is_found_where_it_lies(tmp_path_factory, shape, dtype, depth):
    array = (np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 2).astype(dtype)
    name = "/".join([*(f"scope{i}" for i in range(depth)), "leaf"])
    path = write(tmp_path_factory.mktemp("packed"), packed(nested({name: array, "other": "x" * 300})))
    leaves = packed_leaves(path)
    assert leaves["other"] == "x" * 300
    leaf = leaves[name]
    assert isinstance(leaf, PackedArray)
    np.testing.assert_array_equal(read_at(path, leaf.start, leaf.shape, leaf.dtype), array)


def test_every_length_of_name_text_and_number_is_read(tmp_path):
    numbers = [
        0,
        127,
        128,
        255,
        256,
        65535,
        65536,
        2**32,
        2**63,
        -1,
        -32,
        -33,
        -129,
        -32769,
        -(2**31) - 1,
        1.5,
    ]
    tree = {"n" * (5 + i): number for i, number in enumerate(numbers)}
    tree |= {f"t{n}": "x" * n for n in (0, 31, 32, 255, 256, 65535, 65536)}
    tree |= {"none": None, "yes": True, "no": False, "many": {str(i): i for i in range(70_000)}}
    found = packed_leaves(write(tmp_path, packed(tree)))
    many = tree.pop("many")
    assert found == tree | {f"many/{key}": value for key, value in many.items()}


@settings(max_examples=400)
@given(content=st.binary(max_size=200))
@example(content=b"")
@example(content=b"\x80")
@example(content=b"\xdd\xff\xff\xff\xff")
@example(content=b"\x81\xa1a\xc9\xff\xff\xff\xff\x01")
@example(content=b"\x81\xa1a" * 60)
def test_any_bytes_are_a_tree_or_an_error_that_names_the_file(tmp_path_factory, content):
    path = write(tmp_path_factory.mktemp("fuzz"), content)
    assert str(path) in read_or_refused(path)


@settings(max_examples=300)
@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(WHOLE)))
def test_a_changed_or_shortened_checkpoint_is_read_or_refused_with_its_place(tmp_path_factory, at, byte, cut):
    folder = tmp_path_factory.mktemp("changed")
    changed = bytearray(WHOLE)
    changed[at] = byte
    for content in (bytes(changed), WHOLE[:cut]):
        path = write(folder, content)
        assert str(path) in read_or_refused(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xde\xff\xff", "truncated"),
        (b"\xdd\x7f\xff\xff\xff", "expected a map at 'the top', found a list"),
        (b"\x81\xa1a\xdd\x7f\xff\xff\xff", "expected an array, a text or a number, found a list"),
        (b"\x81\xa1a\xc6\x7f\xff\xff\xff", "truncated: bytes of 2147483647 bytes is expected, 0 are left"),
        (b"\x81\xa1a\xc7\x02\x02ab", "expected an array .* found extension 2"),
        (b"\x82\xa1a\x01\xa1a\x02", "'a' is given twice"),
        (b"\x81\xa3a/b\x01", "holds a slash"),
        (b"\x81\x01\x01", "expected a name, found a small number"),
        (b"\x80\x80", "found 1 more bytes"),
        (b"\x81\xa1a" * 40 + b"\x80", "more than 32 deep"),
        (b"\xc1", "c1"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_expected(tmp_path, content, said):
    with pytest.raises(DataError, match=f"at byte [0-9]+: .*{said}"):
        packed_leaves(write(tmp_path, content))


def extension(shape, dtype, content) -> bytes:
    inner = msgpack.packb([shape, dtype, content])
    return msgpack.packb({"a": msgpack.ExtType(1, inner)})


@pytest.mark.parametrize(
    ("shape", "dtype", "content", "said"),
    [
        ([2], "float32", b"1234", r"shape \(2,\) needs 8 bytes, found 4 bytes"),
        ([2**40, 2**40], "float32", b"1234", "needs 4835703278458516698824704 bytes"),
        ([1], "object", b"12345678", "unknown type of numbers 'object'"),
        ([1], "float23", b"1234", "did you mean 'float32'"),
        ([-1], "float32", b"", "expected a shape"),
        ([1] * 9, "float32", b"1234", "at most 8"),
        ([True], "float32", b"1234", "expected a shape"),
        ("12", "float32", b"1234", "expected a shape"),
        ([1], "float32", "1234", "found a text"),
    ],
)
def test_an_array_that_cannot_be_is_refused(tmp_path, shape, dtype, content, said):
    with pytest.raises(DataError, match=said):
        packed_leaves(write(tmp_path, extension(shape, dtype, content)))


def test_no_memory_is_taken_for_what_a_file_only_claims(tmp_path):
    claims = [b"\xdf\xff\xff\xff\xff", b"\x81\xa1a\xc9\xff\xff\xff\xf0\x01", b"\x81\xdb\xff\xff\xff\xf0"]
    for content in claims:
        path = write(tmp_path, content + bytes(100))
        tracemalloc.start()
        with pytest.raises(DataError):
            packed_leaves(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(MissingDataError, match="no such file"):
        packed_leaves(tmp_path / "nothing")
    with pytest.raises(DataError, match=str(tmp_path)):
        packed_leaves(tmp_path)


@pytest.mark.parametrize("place", ["../secret", "/etc", "a/b", "..", "", "a\0b"])
def test_a_placeholder_leads_nowhere_else(tmp_path, place):
    write(tmp_path, packed({"a": f"PLACEHOLDER://{place}"}))
    with pytest.raises(DataError, match="is not the name of an array"):
        flax_tensors(tmp_path)


def test_a_leaf_that_is_no_array_is_refused(tmp_path):
    write(tmp_path, packed({"a": {"b": 3}}))
    with pytest.raises(DataError, match=r"'a/b': expected an array or PLACEHOLDER://NAME, found 3"):
        flax_tensors(tmp_path)


# ── zarr ───────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40)
@given(data=st.data(), dtype=st.sampled_from(["<f4", "<f2", "<i8", "|u1"]))
def test_a_zarr_array_of_any_chunks_is_read_whole(tmp_path_factory, data, dtype):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), max_size=3)))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    folder = write_zarr(tmp_path_factory.mktemp("zarr") / "a.b", array, chunks)
    found = zarr_array(folder)
    assert found.shape == shape
    np.testing.assert_array_equal(found.read(), array)


def change(folder: Path, **about) -> None:
    path = folder / ".zarray"
    path.write_text(json.dumps({**json.loads(path.read_text()), **about}))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"zarr_format": 3}, "zarr_format"),
        ({"compressor": {"id": "blosc"}}, "compressor.id: input should be 'zstd'"),
        ({"order": "F"}, "order"),
        ({"filters": [{"id": "delta"}]}, "filters"),
        ({"dtype": "|O"}, r"dtype '\|O' is not known"),
        ({"shape": [-1, 2]}, "shape"),
        ({"chunks": [0, 3]}, "do not divide"),
        ({"chunks": [3]}, "do not divide"),
        ({"chunks": [99, 99]}, "do not divide"),
        ({"shape": [2**40, 3], "chunks": [2**40, 3]}, "at most"),
        ({"shape": [2**20, 2**20], "chunks": [1, 1]}, "do not divide"),
    ],
)
def test_a_zarr_array_that_is_not_understood_is_refused(tmp_path, about, said):
    folder = write_zarr(tmp_path / "a", np.zeros((2, 3), np.float32))
    change(folder, **about)
    with pytest.raises(DataError, match=rf"\.zarray.*{said}"):
        zarr_array(folder)


@settings(max_examples=100)
@given(content=st.binary(max_size=60))
def test_any_bytes_in_a_chunk_are_refused_with_its_name(tmp_path_factory, content):
    folder = write_zarr(tmp_path_factory.mktemp("zarr") / "a", np.zeros((2, 3), np.float32))
    (folder / "0.0").write_bytes(content)
    with pytest.raises(DataError, match=r"a/0\.0: (expected 24 bytes|cannot be decompressed)"):
        zarr_array(folder).read()


def test_a_chunk_that_would_become_far_too_large_is_not_decompressed(tmp_path):
    import zstandard

    folder = write_zarr(tmp_path / "a", np.zeros((2, 3), np.float32))
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(50_000_000))
    (folder / "0.0").write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(DataError, match="expected 24 bytes"):
        zarr_array(folder).read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_missing_parts_of_a_zarr_array_are_named(tmp_path):
    folder = write_zarr(tmp_path / "a", np.zeros((2, 3), np.float32))
    (folder / "0.0").unlink()
    with pytest.raises(MissingDataError, match=r"a/0\.0: missing"):
        zarr_array(folder).read()
    change(folder, fill_value=2.5)
    assert torch.equal(zarr_array(folder).read(), torch.full((2, 3), 2.5))
    with pytest.raises(MissingDataError, match=r"b/\.zarray: missing"):
        zarr_array(tmp_path / "b")


# ── OCDBT ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_ocdbt_store_is_read_with_tensorstore(tmp_path):
    tensorstore = pytest.importorskip("tensorstore", reason="the extra 'ocdbt' is not installed")
    arrays = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((), np.float32)}
    for name, array in arrays.items():
        place = name.replace("/", ".")
        store = {"driver": "ocdbt", "base": f"file://{tmp_path}/", "path": f"{place}/"}
        about = {"shape": array.shape, "chunks": array.shape, "dtype": "<f4", "compressor": {"id": "zstd"}}
        tensorstore.open({"driver": "zarr", "kvstore": store, "metadata": about}, create=True).result().write(
            array
        ).result()
    write(tmp_path, packed(nested({n: f"PLACEHOLDER://{n.replace('/', '.')}" for n in arrays})))
    for name, tensor in flax_tensors(tmp_path).items():
        np.testing.assert_array_equal(tensor.read(), arrays[name])
    with pytest.raises(DataError, match=r"manifest\.ocdbt: array 'c' cannot be opened"):
        ocdbt_array(tmp_path, "c")
    (tmp_path / "manifest.ocdbt").write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be opened"):
        ocdbt_array(tmp_path, "b")


def test_without_tensorstore_an_ocdbt_store_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorstore", None)
    (tmp_path / "manifest.ocdbt").write_bytes(b"")
    write(tmp_path, packed({"a": "PLACEHOLDER://a"}))
    with pytest.raises(MissingCapabilityError, match=r"manifest\.ocdbt.*pip install 'vla-bench\[ocdbt\]'"):
        flax_tensors(tmp_path)
