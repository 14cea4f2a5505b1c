import pytest
from support.runs import plan_of
from support.worlds import BRIDGE, ROOT, environment, needs_libero, python

from vla_bench import catalog
from vla_bench.errors import MissingDataError
from vla_bench.run.session import begin_session
from vla_bench.sim import fingerprint
from vla_bench.sim.assets import libero_status

BLIND = {"tasks": (BRIDGE,), "policies": ("noop",), "episodes": 1}


def test_a_session_says_what_the_machine_is():
    session = begin_session(plan_of(**BLIND), ["vla-bench", "run", "x"])
    assert session.command == ("vla-bench", "run", "x")
    assert {"mujoco", "numpy", "numba", "vla-bench", "robosuite"} <= set(session.versions)
    assert session.fingerprint == str(fingerprint.take(views=0))
    assert (session.gl_renderer, session.assets) == (None, None)
    assert session.device
    assert session.platform
    assert session.python


def test_pictures_are_fingerprinted_where_something_looks():
    session = begin_session(plan_of(**BLIND, outputs={"video": "all"}), ["x"])
    taken = fingerprint.take(views=2)
    assert (session.fingerprint, session.gl_renderer) == (str(taken), taken.gl_renderer)
    assert session.fingerprint.startswith(str(fingerprint.take(views=0)))
    assert begin_session(plan_of(**BLIND, outputs={"video": 0}), ["x"]).gl_renderer is None


def test_a_blind_run_draws_nothing():
    code = (
        "from support.runs import plan_of\n"
        "from vla_bench.run.session import begin_session\n"
        f"begin_session(plan_of(tasks=({BRIDGE!r},), policies=('noop',), episodes=1), ['x'])\n"
        "from vla_bench.sim import graphics\n"
        "print(graphics._the_context)\n"
    )
    ended = python(code, environment(ROOT / "tests"))
    assert ended.stdout.strip() == "None", ended.stderr


@needs_libero
def test_the_state_of_liberos_files_is_part_of_a_session_that_uses_them():
    session = begin_session(plan_of(tasks=("libero_goal/0",), policies=("noop",), episodes=1), ["x"])
    status = libero_status(catalog.libero_root())
    assert session.assets is not None
    assert set(session.assets.stand_ins) == {*status.standins, *status.altered}
    assert session.assets.missing == status.missing


def test_a_suite_without_its_data_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.delenv(catalog.LIBERO_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = plan_of(suites=("libero_goal",), policies=("noop",), episodes=1)
    with pytest.raises(MissingDataError, match="run `vla-bench assets libero`"):
        begin_session(plan, ["x"])
