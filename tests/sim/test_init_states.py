import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.worlds import needs_libero

from vla_bench import catalog
from vla_bench.errors import DataError, MissingDataError
from vla_bench.sim.init_states import read_init_states

STATES = np.arange(12.0).reshape(3, 4)


def write(path, content, member="archive/data.pkl"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content if isinstance(content, bytes) else pickle.dumps(content, protocol=2))
    return path


class Touch:
    """Pickles into a call that creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_an_array_is_read_and_cannot_be_changed(tmp_path):
    read = read_init_states(write(tmp_path / "a.pruned_init", STATES))
    assert np.array_equal(read, STATES)
    with pytest.raises(ValueError, match="read-only"):
        read[0, 0] = 1


@needs_libero
@pytest.mark.parametrize("task_id", ["libero_spatial/0", "libero_10/9"])
def test_liberos_files_hold_fifty_finite_states_at_time_zero(task_id):
    states = read_init_states(catalog.task(task_id).init_states)
    assert len(states) == 50
    assert len(np.unique(states, axis=0)) == 50
    assert np.isfinite(states).all()


def test_a_file_that_would_execute_something_is_refused_unexecuted(tmp_path):
    victim = tmp_path / "victim"
    pickle.loads(pickle.dumps(Touch(victim), protocol=2)).close()
    assert victim.exists(), "the bait works"
    victim.unlink()
    for content in (Touch(victim), [STATES, Touch(victim)], {"states": Touch(victim)}):
        with pytest.raises(DataError, match=r"refused global (io|_io|builtins)\.open"):
            read_init_states(write(tmp_path / f"{type(content).__name__}.pruned_init", content))
    assert not victim.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.", b"c__builtin__\neval\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.", b"\x80\x02X\x01\x00\x00\x00aQ.",
    ],
)  # fmt: skip
def test_nothing_but_an_arrays_own_parts_is_called(tmp_path, code):
    with pytest.raises(DataError, match="refused"):
        read_init_states(write(tmp_path / "a.pruned_init", code))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1.0, 2.0], "it holds list, expected an array"),
        (STATES.astype(np.float32), r"expected little-endian float64"),
        (STATES[0], r"shape \(4,\), expected two dimensions"),
        (STATES * np.nan, "holds numbers that are not finite"),
        (b"", "is not a file of initial states"),
        (pickle.dumps(STATES)[:60], "is not a file of initial states"),
    ],
)
def test_what_is_no_array_of_states_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=rf"a\.pruned_init: .*{message}"):
        read_init_states(write(tmp_path / "a.pruned_init", content))


def test_foreign_and_cut_files_are_refused(tmp_path):
    path = tmp_path / "a.pruned_init"
    with pytest.raises(MissingDataError, match=r"a\.pruned_init: no such file of initial states$"):
        read_init_states(path)
    whole = write(tmp_path / "whole.pruned_init", STATES).read_bytes()
    foreign = write(tmp_path / "foreign.zip", b"", member="readme.txt").read_bytes()
    for content in (b"", b"text", whole[:-10], whole[: len(whole) // 2], pickle.dumps(STATES), foreign):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.pruned_init: is not a file of initial states"):
            read_init_states(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="is not a file of initial states"):
        read_init_states(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_breaks_the_reader(tmp_path_factory, data):
    content = bytearray(pickle.dumps(STATES, protocol=2))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path_factory.getbasetemp() / "damaged.pruned_init", bytes(content))
    try:
        states = read_init_states.__wrapped__(path)
    except DataError:
        return
    assert (states.dtype, states.ndim) == (np.float64, 2)
