import re

import pytest
from support.worlds import needs_libero

from vla_bench import catalog
from vla_bench.axes import authoring, requirements
from vla_bench.axes.factors import Quantity, factors
from vla_bench.axes.goals import check_goal
from vla_bench.axes.lexicon import lexicon
from vla_bench.axes.phrasing import ADDED
from vla_bench.axes.texts import variants
from vla_bench.bddl import read_problem
from vla_bench.errors import DataError, UnknownNameError
from vla_bench.types import TASK_AXES

FACTORS = list(factors().values())
TALKING = [factor for factor in FACTORS if factor.texts is not None]


@pytest.mark.parametrize("factor", FACTORS, ids=lambda f: f.id)
def test_a_factor_is_complete(factor):
    assert callable(factor.load())
    assert set(factor.needs) <= set(requirements.REQUIREMENTS)
    assert factor.title
    assert factor.changes.endswith(".")
    assert all(quantity.unit for quantity in factor.quantities.values())
    assert (factor.texts is None) == (not factor.provenance), "texts say where they come from"


def test_every_axis_has_factors():
    assert {factor.axis for factor in FACTORS} == set(TASK_AXES)
    assert [f.id for f in FACTORS] == sorted(factors(), key=lambda i: (TASK_AXES.index(i.split(".")[0]), i))


@pytest.mark.parametrize("levels", [(1, 2, 3, 4, 3), (0, 1, 2, 3, 4), (1, 1, 1, 1, 1), (-1, 2, -1.5, 3, 4)])
def test_levels_move_away_from_the_nominal(levels):
    with pytest.raises(ValueError, match="levels"):
        Quantity(unit="m", nominal=0, levels=levels)
    assert Quantity(unit="m", nominal=1, levels=(0.9, 0.8, 0.8, 0.5, 0.1)).levels[0] == 0.9


def test_a_broken_file_names_itself_and_the_nearest_key(tmp_path, monkeypatch):
    (tmp_path / "visual").mkdir()
    path = tmp_path / "visual" / "sparkle.toml"
    levels = "[quantities]\nx = { unit = 'm', levels = [1, 2, 3, 4, 5] }\n"
    good = f'title = "S"\nchanges = "S."\nfunction = "fog"\n{levels}'
    path.write_text(good.replace("changes", "chanegs"))
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=r"sparkle\.toml.*chanegs.*did you mean 'changes'"):
        factors()
    path.write_text(good.replace('"fog"', '"fogg"'))
    from vla_bench.axes.factors import _factors

    _factors.cache_clear()
    with pytest.raises(UnknownNameError, match="did you mean 'fog'"):
        factors()["visual.sparkle"].load()


# ── what is said ───────────────────────────────────────────────────────────────────────────────────────────


def built_in_tasks():
    suites = [s for s in catalog.suites().values() if not s.needs_libero and s.engine is None]
    return [suite.task(stem) for suite in suites for stem in suite.stems()]


def check_goals(tasks):
    checked = 0
    for task in tasks:
        problem = read_problem(task.bddl)
        for factor in TALKING:
            for level in range(1, 6):
                if requirements.refusal(factor, task, level, problem) is None:
                    found = check_goal(factor, level, task, problem)
                    assert found.problems == (), (task.id, factor.id, level)
                    assert found.changed == ("goal" in factor.sets)
                    checked += 1
    return checked


def test_the_goal_is_unchanged_or_changed_as_declared_in_built_in_tasks():
    assert check_goals(built_in_tasks()) > 1000


@needs_libero
def test_the_goal_is_unchanged_or_changed_as_declared_in_libero():
    assert check_goals(
        [catalog.task(f"libero_{name}/{n}") for name in ("goal", "90") for n in range(0, 10, 3)]
    )


def test_a_text_that_names_something_else_is_not_certified(monkeypatch):
    task = catalog.task("bridge_base/put_the_carrot_on_the_plate")
    for wrong in ("put the eggplant on the plate", "put the carrot down"):
        monkeypatch.setattr("vla_bench.axes.goals.variants", lambda *_, text=wrong: (text,))
        assert check_goal(factors()["language.synonyms"], 2, task).problems
        assert check_goal(factors()["language.typing_errors"], 1, task).problems


def test_every_instruction_has_its_frozen_texts_and_they_are_those_of_the_lexicon():
    for instruction in authoring.instructions():
        for name, levels in authoring.texts(instruction).items():
            factor = factors()[name.replace("/texts/", ".").removesuffix(".csv")]
            for level, said in enumerate(levels, start=1):
                assert variants(factor, instruction, level) == tuple(said), (instruction, factor.id, level)


def test_verbosity_adds_as_many_words_as_its_file_says():
    counts = [len(text.replace("{}", "").split()) for text in ADDED]
    assert tuple(counts) == factors()["language.verbosity"].quantities["words"].levels
    assert tuple(authoring.TYPOS) == factors()["language.typing_errors"].quantities["errors"].levels


def test_the_lexicon_finds_the_longest_name_and_knows_all_verbs():
    words = lexicon()
    assert words.nouns_in("put the pink plate near the thing you eat a steak from") == ("pink plate", "plate")
    assert words.nouns_in("scantily plated") == ()
    for instruction in authoring.instructions():
        assert re.match(rf"({'|'.join(words.verbs)})\b", instruction), instruction
        assert words.nouns_in(instruction), instruction
