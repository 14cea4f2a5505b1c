"""The certificates that ship with the project: complete, of these files, and as good as we say."""

from collections import Counter

import pytest
from support.worlds import ROOT, needs_libero

from vla_bench import catalog
from vla_bench.axes import certificate_page
from vla_bench.axes.certificates import FOLDER, certificates, content_digest
from vla_bench.axes.factors import factors
from vla_bench.axes.goals import check_goal
from vla_bench.axes.requirements import refusal
from vla_bench.axes.variation import parse
from vla_bench.run.certify import Examiner

BUILTIN = ("bridge_base", "bridge")
MIRRORS = ("google", "franka", "franka_15hz")  # certified unvaried
LIBERO = [pytest.param(name, marks=needs_libero) for name in ("libero_object", "libero_spatial")]


def counted(suite):
    """Single factors at levels 1 to 3."""
    for row in certificates(suite).values():
        variation = parse(row.variation)
        if len(variation) == 1 and variation[0][1] <= certificate_page.COUNTED_LEVELS:
            yield row


@pytest.mark.parametrize("suite", BUILTIN)
def test_the_expert_solves_the_unvaried_tasks(suite):
    rows = [row for row in certificates(suite).values() if not row.variation]
    assert {row.task for row in rows} == {f"{suite}/{stem}" for stem in catalog.suite(suite).stems()}
    assert all(row.n >= 50 for row in rows)
    assert sum(row.solved for row in rows) / sum(row.n for row in rows) >= 0.9
    assert all(row.solved / row.n >= 0.8 for row in rows)


@pytest.mark.parametrize("suite", MIRRORS)
def test_the_expert_solves_nine_of_ten_draws_of_every_mirrored_task(suite):
    rows = [row for row in certificates(suite).values() if not row.variation]
    assert {row.task for row in rows} == {f"{suite}/{stem}" for stem in catalog.suite(suite).stems()}
    assert all(row.n >= 21 and row.certified for row in rows)
    assert all(row.solved / row.n >= 0.9 for row in rows)


@pytest.mark.parametrize("suite", ["bridge", *LIBERO])
def test_every_factor_that_applies_was_tried_on_every_task_and_most_cells_are_certified(suite):
    tried = {(row.task, row.variation) for row in counted(suite)}
    tasks = [catalog.task(f"{suite}/{stem}") for stem in catalog.suite(suite).stems()]
    wanted = {
        (task.id, f"{factor.id}@{level}")
        for task in tasks
        for factor in factors().values()
        for level in range(1, certificate_page.COUNTED_LEVELS + 1)
        if refusal(factor, task, level) is None
    }
    assert Counter(task for task, _ in wanted - tried) == {}
    assert sum(row.certified for row in counted(suite)) / len(wanted) >= 0.85


@pytest.mark.parametrize("suite", [*BUILTIN, *MIRRORS, *LIBERO])
def test_certificates_are_of_the_files_that_are_here_and_say_why_they_failed(suite):
    for row in certificates(suite).values():
        assert row.content == content_digest(catalog.task(row.task), row.variation), (row.task, row.variation)
        assert row.certified or row.reason, row


@pytest.mark.parametrize("suite", [*BUILTIN, *LIBERO])
def test_what_is_said_still_means_the_goal(suite):
    for row in certificates(suite).values():
        for factor, level in parse(row.variation):
            if factor.axis in ("language", "semantic"):
                assert check_goal(factor, level, catalog.task(row.task)).problems == (), row


def test_a_sample_is_measured_again_and_comes_out_the_same():
    """Contacts may differ between processors; what was certified stays certified."""
    task = catalog.task("bridge/blue_cup_on_pink_cup")
    examiner = Examiner(task)
    for variation in ("visual.camera@3", "motion.object_position@2", "physical.mass@3"):
        shipped = certificates("bridge")[task.id, variation]
        again = examiner.examine(variation, 21)
        assert again.certified == shipped.certified
        if again.fingerprint == shipped.fingerprint:
            assert (again.n, again.solved, again.seen) == (shipped.n, shipped.solved, shipped.seen)
    examiner.close()


def test_the_page_is_that_of_the_tables():
    page = (ROOT / "docs" / certificate_page.PAGE).read_text()
    assert page == certificate_page.page(), "python -m vla_bench.axes.certificate_page docs"


def test_there_is_no_table_of_a_suite_that_does_not_exist():
    names = {path.stem for path in (ROOT / "tasks" / FOLDER).glob("*.csv")}
    assert names <= set(catalog.suites())
