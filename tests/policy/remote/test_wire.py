"""Bytes from strangers: numbers come through unchanged, all else is refused before it costs anything."""

from __future__ import annotations

import contextlib
import io
import json
import pickle

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_bench.policy.remote.dialects import GR00T, JSON_NUMPY, OPENPI, VLA_EVAL, read_npy
from vla_bench.policy.remote.wire import (
    MAX_BYTES,
    MAX_ELEMENTS,
    WireError,
    array_of,
    field,
    pack,
    parse_json,
    unpack,
)

PACKED = {"vla-eval": VLA_EVAL, "openpi": OPENPI, "gr00t": GR00T}
ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 4, 3), np.array([np.nan, -np.inf, 5e-324]), np.zeros((0, 7)),
    np.array(3.5), np.array([True, False]), np.arange(6, dtype=">i4").reshape(2, 3), np.arange(8)[::2],
    np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.float16([0.1]), np.uint64([2**63]),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
@pytest.mark.parametrize("name", [*PACKED, "json"])
def test_an_array_comes_through_bit_for_bit(name, array):
    if name == "json":
        text = json.dumps({"a": array}, default=JSON_NUMPY.write).encode()
        back = parse_json(text, JSON_NUMPY.read)["a"]
    else:
        back = unpack(pack({"a": array}, PACKED[name].write), PACKED[name].read)["a"]
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)
    assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert back.flags.writeable or name == "gr00t"


@pytest.mark.parametrize("value", [np.array([{}]), np.array(["text"]), np.array([1j]), object(), {1, 2}])
@pytest.mark.parametrize("dialect", [*PACKED.values(), JSON_NUMPY])
def test_what_is_no_number_is_not_sent(dialect, value):
    with pytest.raises(TypeError, match="cannot be sent"):
        dialect.write(value)


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (b"\0" * 8, "O", [1]),
        (b"\0" * 8, "|O", [1]),
        (b"\0" * 8, "V8", [1]),
        (b"\0" * 16, "<c16", [1]),
        (b"\0" * 8, "<M8[s]", [1]),
        (b"\0" * 8, "f8,i4", [1]),
        (b"\0" * 8, ["<f8"], [1]),
        (b"\0" * 8, "<f8", [2]),
        (b"\0" * 8, "<f8", [10**12, 10**12]),
        (b"\0" * 8, "<f8", [-1]),
        (b"\0" * 8, "<f8", [True]),
        (b"\0" * 8, "<f8", [1] * 40),
        (b"\0" * 8, "<f8", "1"),
        (b"\0" * 8, "<f8", None),
        ("text", "<f8", [1]),
        ([0] * 8, "|u1", [8]),
    ],
)
def test_an_array_that_lies_about_itself_is_refused(data, dtype, shape):
    with pytest.raises(WireError, match="an array"):
        array_of(data, dtype, shape)


def test_a_npy_file_is_believed_only_as_far_as_its_bytes_go():
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with pytest.raises(WireError, match=r"shape \(1099511627776,\)|of shape \[1099511627776\]"):
        read_npy(file.getvalue() + b"\0" * 8)
    objects = io.BytesIO()
    np.save(objects, np.array([{}]), allow_pickle=True)
    for broken in (objects.getvalue(), pickle.dumps(np.zeros(3)), b"", b"\x93NUMPY\x01\0\xff\xff", "text"):
        with pytest.raises(WireError):
            read_npy(broken)


def test_a_pickle_is_refused_and_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("opened").touch, ())

    for read in (OPENPI.read, VLA_EVAL.read, GR00T.read):
        with pytest.raises(WireError):
            unpack(pickle.dumps(Bomb()), read)
    assert not (tmp_path / "opened").exists()


def test_a_message_may_not_be_larger_in_memory_than_it_looks():
    maps = msgpack.packb([[{}] * 9_000] * 20)
    assert len(maps) < 200_000
    with pytest.raises(WireError, match=f"more than {MAX_ELEMENTS} elements"):
        unpack(maps)
    with pytest.raises(WireError, match="no MessagePack"):
        unpack(b"\xdd\xff\xff\xff\xff")  # a list of 2³² elements that never come
    with pytest.raises(WireError, match="no MessagePack"):
        unpack(b"\x91" * 100_000 + b"\xc0")  # lists in lists
    with pytest.raises(WireError, match=f"{MAX_BYTES} are allowed"):
        unpack(b"\xc4" + b"\0" * MAX_BYTES)
    with pytest.raises(WireError, match="elements in one message"):
        parse_json(b"[" + b"[]," * MAX_ELEMENTS + b"[]]")
    with pytest.raises(WireError, match="no JSON: RecursionError"):
        parse_json(b'{"a":' * 90_000)
    with pytest.raises(WireError, match="no JSON"):
        parse_json(b'{"a": ' + b"9" * 10_000 + b"}")


def test_a_picture_is_decoded_only_as_announced():
    import PIL.Image

    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG")
    announced = {"__image__": True, "format": "png", "data": file.getvalue(), "shape": [4, 4, 3]}
    np.testing.assert_array_equal(VLA_EVAL.read(announced), image)
    for lie in (
        {"shape": [5, 4, 3]},
        {"shape": None},
        {"format": "gif"},
        {"format": "jpeg"},
        {"data": b"\x89PNG"},
        {"data": 3},
    ):
        with pytest.raises(WireError, match="a picture"):
            VLA_EVAL.read({**announced, **lie})
    # 50 000 × 50 000 pixels in a hundred bytes: the header alone is read
    large = file.getvalue()[:16] + (50_000).to_bytes(4) * 2 + file.getvalue()[24:]
    with pytest.raises(WireError, match="a picture"):
        VLA_EVAL.read({**announced, "data": large, "shape": [50_000, 50_000, 3]})


@given(st.binary(max_size=300))
def test_noise_is_a_message_or_one_error(noise):
    for read in (lambda: unpack(noise, OPENPI.read), lambda: parse_json(noise, JSON_NUMPY.read)):
        with contextlib.suppress(WireError):
            read()


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**40), 2**40)
        | st.text(max_size=5)
        | st.binary(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["__ndarray__", "data", "dtype", "shape", "__image__", "format", "as_npy"])
                | st.text(max_size=3),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_maps_that_only_look_like_arrays_are_one_error(value):
    for dialect in PACKED.values():
        with contextlib.suppress(WireError):
            unpack(msgpack.packb(value), dialect.read)


def test_a_missing_or_wrong_entry_is_named_with_what_there_is():
    with pytest.raises(WireError, match="'seq' is missing in the message; it has a, b"):
        field({"a": 1, "b": 2}, "seq", int)
    with pytest.raises(WireError, match="'seq' in the message is str"):
        field({"seq": "1"}, "seq", int)
    with pytest.raises(WireError, match="'seq' in the message is bool"):
        field({"seq": True}, "seq", int)
    with pytest.raises(WireError, match="the payload is list, a map is expected"):
        field([], "seq", int, where="payload")
