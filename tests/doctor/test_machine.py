import dataclasses
import json

import pytest
from support.worlds import environment, needs_libero, vla_bench

from vla_bench import catalog
from vla_bench.doctor import machine
from vla_bench.sim import fingerprint


@pytest.fixture(scope="module")
def checks():
    return {check.name: check for check in machine.examine()}


def test_everything_is_looked_at(checks):
    assert {"versions", "graphics", "robot", "libero", "fingerprint"} <= set(checks)
    assert "mujoco 3." in checks["versions"].text
    assert "because" in checks["graphics"].text, "which renderer, and why"
    assert all(check.text and str(check).startswith(check.verdict) for check in checks.values())


def test_this_machine_passes(checks):
    assert {check.name: check.text for check in checks.values() if check.verdict == "broken"} == {}


@needs_libero
def test_liberos_delicate_contact_holds(checks):
    assert checks["settling"].verdict == "good"
    assert "5 of 5 episodes of libero_spatial/" in checks["settling"].text


def test_absent_data_is_a_note_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv(catalog.LIBERO_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checks = {check.name: check for check in machine.examine()}
    assert checks["libero"].verdict == "note"
    assert "run `vla-bench assets libero`" in checks["libero"].text
    assert "settling" not in checks


def test_a_fingerprint_is_stored_and_compared(tmp_path):
    mine = tmp_path / "mine.json"
    ended = vla_bench("doctor", "--json", "--write", mine, "--compare", mine)
    assert ended.returncode == 0, ended.stderr
    found = [check for check in json.loads(ended.stdout) if check["name"] == "fingerprint"]
    assert [check["verdict"] for check in found] == ["good", "good"]
    other = dataclasses.replace(fingerprint.read(mine), physics="00000000")
    fingerprint.write(other, mine)
    ended = vla_bench("doctor", "--compare", mine)
    assert ended.returncode == 0
    assert "success rates are not comparable" in ended.stdout


def test_what_is_broken_is_said_and_ends_in_an_error_code(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    ended = vla_bench(
        "doctor",
        "--compare",
        broken,
        env=environment(**{catalog.LIBERO_VARIABLE: None, "XDG_CACHE_HOME": tmp_path}),
    )
    assert ended.returncode == 1
    assert "broken.json: is not a fingerprint" in ended.stdout
    assert ended.stderr == ""
    unwritable = tmp_path / "broken.json" / "mine.json"
    ended = vla_bench("doctor", "--write", unwritable)
    assert ended.returncode == 1
    assert f"{unwritable} cannot be written: " in ended.stdout
    assert ended.stderr == ""
