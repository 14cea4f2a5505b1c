import dataclasses

import pytest

from vla_bench.errors import DataError
from vla_bench.sim import fingerprint
from vla_bench.sim.fingerprint import Fingerprint, differences

OURS = Fingerprint("3.3.7", "numba", "aaaaaaaa", "bbbbbbbb", "llvmpipe")


@pytest.fixture(scope="module")
def taken():
    return fingerprint.take(views=0)


def test_this_machine_has_the_released_physics(taken):
    """Fails where engine, scene, controller or placement changed: then all results change, and so must it."""
    assert differences(taken, fingerprint.read()) == []


def test_it_is_taken_twice_alike_and_by_both_controllers(taken):
    assert fingerprint.take(views=0) == taken
    reference = fingerprint.take(views=0, backend="numpy")
    assert reference == dataclasses.replace(taken, controller="numpy")


def test_pictures_count_only_where_they_are_drawn(taken):
    seeing = fingerprint.take(views=1)
    assert (taken.pixels, taken.gl_renderer) == (None, None)
    assert seeing.physics == taken.physics
    assert seeing.gl_renderer
    assert str(seeing) == f"{taken}-{seeing.pixels}"
    assert fingerprint.take(views=1) == seeing


def test_it_is_read_as_it_was_written(tmp_path, taken):
    fingerprint.write(taken, tmp_path / "new" / "f.json")
    assert fingerprint.read(tmp_path / "new" / "f.json") == taken


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"mujoco": "3"}', '{"colour": "red"}'])
def test_what_is_no_fingerprint_is_refused(tmp_path, text):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"f\.json: is not a fingerprint"):
        fingerprint.read(path)
    with pytest.raises(DataError, match=r"none\.json: is not a fingerprint: .*No such file"):
        fingerprint.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"mujoco": "3.4.0"}, ["MuJoCo is 3.3.7, the reference was taken with 3.4.0"]),
        ({"physics": "cccccccc"}, ["the probe settles differently"]),
        ({"controller": "numpy"}, ["the probe settles differently"]),
        ({"pixels": "cccccccc"}, ["pictures differ with the same GL renderer"]),
        ({"pixels": "cccccccc", "gl_renderer": "NVIDIA"}, ["pictures come from llvmpipe, the"]),
        ({"pixels": None, "gl_renderer": None}, []),
        ({"gl_renderer": "NVIDIA"}, []),
    ],
)  # fmt: skip
def test_differences_are_told_with_what_they_mean(change, said):
    found = differences(OURS, dataclasses.replace(OURS, **change))
    assert len(found) == len(said)
    assert all(text.startswith(begin) for text, begin in zip(found, said, strict=True))
