import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.worlds import APART, TABLETOP, needs_libero, write_task

from vla_bench import catalog
from vla_bench.bddl import PREDICATES, read_problem
from vla_bench.errors import DataError, MissingDataError
from vla_bench.sim.scene import read_task
from vla_bench.types import Predicate

GOAL = "(On carrot_1 plate_1)"
SOUND = TABLETOP.format(init=APART, goal=GOAL)


@pytest.fixture
def read(tmp_path):
    """Read a text as a task file."""

    def reading(text):
        path = tmp_path / "task.bddl"
        path.write_text(text, encoding="utf-8")
        return read_problem(path)

    return reading


def test_a_task_file_says_what_is_where_and_what_is_wanted(read):
    problem = read(SOUND)
    assert (problem.name, problem.language) == ("tabletop", "put the carrot on the plate")
    assert problem.fixtures == {"main_table": "table"}
    assert problem.objects == {"carrot_1": "carrot", "plate_1": "dinner_plate"}
    assert problem.objects_of_interest == ("carrot_1", "plate_1")
    assert problem.init == (
        Predicate("on", ("plate_1", "main_table_right_region")),
        Predicate("on", ("carrot_1", "main_table_left_region")),
    )
    assert problem.goal == (Predicate("on", ("carrot_1", "plate_1")),)
    left = problem.regions["main_table_left_region"]
    assert (left.target, left.ranges, left.yaw_rotation) == (
        "main_table", ((-0.16, 0.06, 0.02, 0.24),), (-1.2, 1.2),
    )  # fmt: skip


def test_names_are_lower_case_comments_are_ignored_and_order_does_not_matter(read):
    problem = read(SOUND)
    shouted = (
        SOUND.upper()
        .replace("DEFINE", "define")
        .replace("PUT THE CARROT ON THE PLATE", "put the carrot on the plate")
    )
    assert read(shouted) == problem
    assert read(re.sub(r"$", " ; (:goal (And))", SOUND, flags=re.MULTILINE)) == problem
    sections = re.search(r"(\(:objects.*?\)\n)(.*?)(  \(:goal.*\)\n)\)", SOUND, re.DOTALL)
    turned = SOUND.replace(sections[0], f"{sections[3]}{sections[2]}  {sections[1]})")
    assert turned != SOUND
    assert read(turned) == problem


def test_lines_are_those_of_the_file(read):
    problem = read("; a comment\n" + SOUND)
    lines = ("; a comment\n" + SOUND).splitlines()
    assert "problem tabletop" in lines[problem.line - 1]
    assert "carrot_1 - carrot" in lines[problem.lines["carrot_1"] - 1]
    assert "left_region" in lines[problem.regions["main_table_left_region"].line - 1]
    assert "(:goal" in lines[problem.goal[0].line - 1]


# What is replaced in the sound file, by what, and how the sentence goes on after the file's name.
MISTAKES = {
    "predicate": (GOAL, "(Onn carrot_1 plate_1)", ":11: unknown predicate 'Onn'; did you mean 'on'?"),
    "arity": (GOAL, "(On carrot_1)", ":11: (on …) takes 2 names, found ['carrot_1']"),
    "nested": (GOAL, "(Not (Open plate_1))", ":11: unknown predicate 'Not'; "),
    "name": (
        GOAL,
        "(On carot_1 plate_1)",
        ":11: on(carot_1, plate_1): nothing is called 'carot_1'; did you mean 'carrot_1'",
    ),
    "empty goal": (GOAL, "", ":11: the goal is empty"),
    "word as goal": (GOAL, "on", ":11: expected a list in parentheses, found 'on'"),
    "other goal": ("(And ", "(Or ", ":11: the goal must be one conjunction (And …)"),
    "section": ("(:objects", "(:objetcs", ":8: unknown section ':objetcs'; did you mean ':objects'"),
    "section twice": ("(:obj_of_interest", "(:objects", ":9: section :objects appears twice"),
    "section missing": ("(:objects", "(:requirements) ; (", ": section (:objects …) is missing"),
    "instance twice": ("plate_1 -", "carrot_1 -", ":8: 'carrot_1' is declared twice (first on line 8)"),
    "object and fixture": (
        "main_table -",
        "carrot_1 -",
        ":8: 'carrot_1' is declared twice (first on line 7)",
    ),
    "no category": ("plate_1 - dinner_plate", "plate_1", ":8: 'plate_1' has no '- category'"),
    "category alone": ("carrot_1 - carrot", "- carrot", ":8: expected 'name … - category'"),
    "region twice": (
        "(right_region",
        "(left_region",
        ":5: region 'main_table_left_region' is declared twice (first on line 4)",
    ),
    "region's key": (
        ":yaw_rotation",
        ":yaw_rotatoin",
        ":4: region 'left_region': cannot use [':yaw_rotatoin', [['-1.2', '1.2']]]; did you mean ':yaw",
    ),
    "no target": ("(:target main_table)", "(:rgba (1 0 0 1))", ":4: region 'left_region' has no (:target …)"),
    "three numbers": ("-0.16 0.06 0.02", "-0.16 0.06", ":4: region 'left_region': expected 4 finite numbers"),
    "not a number": ("-0.16", "nan", ":4: region 'left_region': expected 4 finite numbers, found ['nan'"),
    "infinite": ("-0.16", "-inf", ":4: region 'left_region': expected 4 finite numbers, found ['-inf'"),
    "a word": ("-0.16", "left", ":4: region 'left_region': expected 4 finite numbers, found ['left'"),
    "one angle": ("((-1.2 1.2))", "((1.2))", ":4: region 'left_region': expected 2 finite numbers"),
    "no area": ("-0.16 0.06 0.02", "0.02 0.06 0.02", ":4: region 'left_region': range "),
    "not a section": ("(:init", "() (:init", ":10: expected a section such as (:objects …)"),
    "text behind": ("))\n)\n", "))\n)\n(more)", ":13: "),
    "a parenthesis too many": ("(:objects", ")(:objects", ":8: "),
    "list in words": ("the carrot on", "(the) carrot on", ":2: (:language …) takes plain words only"),
    "define": ("(define", "(defin", ":1: expected (define (problem …) …)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_line_and_what_was_expected(tmp_path, mistake):
    wrong, by, message = MISTAKES[mistake]
    assert wrong in SOUND
    path = tmp_path / "task.bddl"
    path.write_text(SOUND.replace(wrong, by, 1))
    with pytest.raises(DataError) as refused:
        read_problem(path)
    assert str(refused.value).startswith(f"{path}{message}")


def test_a_used_region_of_something_absent_is_refused_an_unused_one_is_not(read):
    absent = SOUND.replace("(left_region (:target main_table)", "(left_region (:target table_2)")
    with pytest.raises(DataError, match=r"10: .*nothing is called 'main_table_left_region'; did you mean"):
        read(absent)
    spoken_of = absent.replace("main_table_left_region", "table_2_left_region")
    with pytest.raises(DataError, match="4: region 'table_2_left_region': nothing is called 'table_2'"):
        read(spoken_of)
    unused = absent.replace("main_table_left_region", "main_table_right_region")
    assert "table_2_left_region" in read(unused).regions


def test_a_file_that_is_cut_anywhere_is_refused(read):
    for end in range(len(SOUND.rstrip())):
        with pytest.raises(DataError, match=r"task\.bddl(:\d+)?: "):
            read(SOUND[:end])


@given(st.integers(0, len(SOUND) - 1), st.text(alphabet=" ()-;:a1\n\x00é", max_size=3), st.integers(0, 30))
def test_a_damaged_file_is_read_or_refused_but_never_breaks_the_reader(tmp_path_factory, at, put, removed):
    path = tmp_path_factory.getbasetemp() / "damaged.bddl"
    path.write_text(SOUND[:at] + put + SOUND[at + removed :], encoding="utf-8")
    with contextlib.suppress(DataError):
        read_problem(path)


def test_what_cannot_be_read_as_text_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.bddl: no such task file"):
        read_problem(tmp_path / "none.bddl")
    (tmp_path / "folder.bddl").mkdir()
    with pytest.raises(DataError, match=r"folder\.bddl: cannot be read"):
        read_problem(tmp_path / "folder.bddl")
    (tmp_path / "bytes.bddl").write_bytes(b"(define \xff)")
    with pytest.raises(DataError, match=r"bytes\.bddl: cannot be read: .*utf-8"):
        read_problem(tmp_path / "bytes.bddl")
    (tmp_path / "empty.bddl").touch()
    with pytest.raises(DataError, match=r"empty\.bddl: the file is empty"):
        read_problem(tmp_path / "empty.bddl")


def test_a_file_of_ones_own_is_not_said_to_come_from_libero(tmp_path):
    with pytest.raises(MissingDataError) as missing:
        read_task(tmp_path / "none.bddl")
    assert "assets libero" not in str(missing.value)


@needs_libero
def test_a_cut_or_missing_file_of_libero_says_how_to_get_it(tmp_path, monkeypatch):
    whole = catalog.task("libero_object/0").bddl
    below = whole.relative_to(catalog.libero_root())
    for folder in ("assets", "bddl_files"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv(catalog.LIBERO_VARIABLE, str(tmp_path))
    with pytest.raises(
        MissingDataError, match=rf"{whole.name}: no such task file; run `vla-bench assets libero`"
    ):
        read_task(tmp_path / below)
    (tmp_path / below).parent.mkdir()
    (tmp_path / below).write_bytes(whole.read_bytes()[:500])
    with pytest.raises(
        DataError, match=r"\.bddl:\d+: .*has 500 bytes, LIBERO's file has \d+; run `vla-bench assets"
    ):
        read_task(tmp_path / below)


def test_every_predicate_can_stand_in_a_goal(tmp_path):
    for name, count in PREDICATES.items():
        goal = f"({name} {' '.join(['carrot_1', 'plate_1'][:count])})"
        assert read_problem(write_task(tmp_path / "t.bddl", goal=goal)).goal[0].name == name
