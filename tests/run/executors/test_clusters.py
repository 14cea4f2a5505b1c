"""Ray's actors and Slurm's jobs (by submitit's local executor) write what one process writes."""

import sys

import pytest
from support.runs import plan_of, run, timeless
from support.traps import Traps
from support.worlds import BRIDGE

from vla_bench.errors import MissingCapabilityError
from vla_bench.run.executors import Means, make_executor
from vla_bench.run.records import read_run
from vla_bench.types import Episode

OTHER = "bridge_base/stack_the_green_block_on_the_yellow_block"
STUDY = {"tasks": (BRIDGE, OTHER), "policies": ("noop", "trapped"), "episodes": 2, "budget": {"steps": 3}}
LOCAL = {"slurm_cluster": "local", "timeout_min": 5}


@pytest.fixture
def traps(tmp_path, monkeypatch):
    return Traps(tmp_path, monkeypatch)


def same(records):
    return [{key: value for key, value in each.items() if key != "worker"} for each in timeless(records)]


@pytest.fixture
def undisturbed(tmp_path, traps):
    return same(run(plan_of(**STUDY), tmp_path / "undisturbed"))


class TestRay:
    @pytest.fixture(autouse=True)
    def _ray(self):
        pytest.importorskip("ray")

    def test_actors_write_what_one_process_writes_also_when_they_die_or_are_interrupted(
        self, tmp_path, traps
    ):
        def interrupt(record):
            raise KeyboardInterrupt

        plan = plan_of(**{**STUDY, "policies": ("noop", "trapped", "random")})
        undisturbed = same(run(plan, tmp_path / "undisturbed"))
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "run", interrupt, make_executor("ray", Means(2)))
        begun = read_run(tmp_path / "run").records
        assert 1 <= len(begun) <= 3, "what is being played is finished, and not what comes after it"
        traps.set(Episode(OTHER, seed=1), "segfault")
        told = []
        records = run(plan, tmp_path / "run", told.append, make_executor("ray", Means(2)))
        assert same(records) == undisturbed
        assert len(told) == 12 - len(begun)
        assert {record.worker for record in records} == {"0", "1"}
        assert read_run(tmp_path / "run").superseded == 0

    def test_an_address_where_nobody_answers_is_a_sentence(self):
        with pytest.raises(MissingCapabilityError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
            make_executor("ray", Means(2, address="127.0.0.1:1"))


class TestSlurm:
    @pytest.fixture(autouse=True)
    def _submitit(self):
        pytest.importorskip("submitit")

    def test_jobs_write_what_one_process_writes_also_when_they_are_killed(self, tmp_path, traps, undisturbed):
        traps.set(Episode(OTHER, seed=1), "killed")
        told = []
        executor = make_executor("slurm", Means(2, slurm=LOCAL))
        records = run(plan_of(**STUDY), tmp_path / "run", told.append, executor)
        assert same(records) == undisturbed
        assert all(path.stat().st_size for path in (tmp_path / "run" / "workers").glob("*.log"))
        assert len(told) == len(records) == 8
        assert read_run(tmp_path / "run").superseded == 0

    def test_a_machine_without_slurm_says_so_before_anything_is_written(self):
        with pytest.raises(MissingCapabilityError, match=r"Slurm takes no jobs here: .*\bsrun\b"):
            make_executor("slurm", Means(2))

    def test_parameters_that_do_not_exist_are_named(self):
        with pytest.raises(MissingCapabilityError, match="timeout_mn"):
            make_executor("slurm", Means(2, slurm={**LOCAL, "timeout_mn": 5}))


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_package_an_executor_names_the_extra(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    for module in [m for m in sys.modules if m.startswith("vla_bench.run.executors.on_")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingCapabilityError, match=f"needs the package '{package}': pip install"):
        make_executor(name, Means(2))
