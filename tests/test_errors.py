import pickle

import pytest

from vla_bench import errors
from vla_bench.errors import DataError, UnknownNameError, VlaBenchError, suggest

MANY = [f"name_{i:02}" for i in range(20)]


@pytest.mark.parametrize(
    ("name", "known", "phrase"),
    [
        ("carot", ["carrot", "plate"], "; did you mean 'carrot'?"),
        ("red", ["rod", "reed", "blue"], "; did you mean 'reed' or 'rod'?"),
        ("xyz", ["carrot", "plate"], "; known: carrot, plate"),
        ("xyz", MANY, f"; 20 are known, for example {', '.join(MANY[:8])}"),
        ("xyz", [], "; none exist"),
    ],
)
def test_the_nearest_names_are_suggested_else_what_exists(name, known, phrase):
    assert suggest(name, iter(known)) == phrase


def test_an_unknown_name_says_what_where_and_what_exists():
    error = UnknownNameError("suite", "brigde", {"bridge": 1, "franka": 2}, where="x.toml")
    assert str(error) == "x.toml: unknown suite 'brigde'; did you mean 'bridge'?"
    assert (error.kind, error.name) == ("suite", "brigde")


def test_a_broken_file_is_named_with_its_line():
    assert str(DataError("a.bddl", "is cut", line=3)) == "a.bddl:3: is cut"
    assert str(DataError("a.bddl", "is cut")) == "a.bddl: is cut"


def test_whatever_is_raised_on_purpose_is_printed_as_one_sentence():
    raised = [
        thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    assert len(raised) >= 7
    assert all(issubclass(thing, VlaBenchError) for thing in raised)


@pytest.mark.parametrize(
    "error",
    [
        UnknownNameError("suite", "brigde", ["bridge"], where="x.toml"),
        DataError("a.bddl", "is cut", line=3),
        VlaBenchError("as it is"),
    ],
)
def test_an_error_says_the_same_in_another_process(error):
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))
