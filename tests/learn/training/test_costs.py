"""Ways of training take turns: each goes on where it was, and what was measured is not measured again."""

from __future__ import annotations

import dataclasses

import pytest
from support.training import config, demonstrations, goal

from vla_bench.errors import ConventionError
from vla_bench.learn.training import costs, state
from vla_bench.learn.training.costs import WARM, Way, take_turn, take_turns


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return demonstrations(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def measured(data, tmp_path_factory):
    """A way that has had both of its turns, in this process, and what they came to."""
    way = Way(goal(), config(), tmp_path_factory.mktemp("way") / "full")
    return way, [take_turn(way, [data], "cpu", until, is_last=until == 8) for until in (4, 8)]


def test_a_turn_times_its_steps_but_the_first_and_knows_what_it_took(measured):
    way, turns = measured
    assert [len(turn.step_s) for turn in turns] == [4 - WARM, 4 - WARM]
    assert all(second > 0 for turn in turns for second in turn.step_s)
    assert all(turn.peak_bytes >= turn.idle_bytes > 10**7 for turn in turns)
    assert turns[0].trained == turns[0].parameters > 150_000
    assert state.newest(way.folder).name == "step-00000008"
    assert (way.folder / "policy/model.safetensors").is_file()


def test_what_was_measured_is_not_measured_again(measured, data, monkeypatch):
    way, turns = measured
    monkeypatch.setattr(costs, "_elsewhere", lambda *args, **keys: pytest.fail("a turn was taken again"))
    assert take_turns({"full": way}, [data], "cpu", steps=8, turns=2) == {"full": turns}
    with pytest.raises(ConventionError, match=r"up to the steps \[4, 8\], asked for \[8, 16\]"):
        take_turns({"full": way}, [data], "cpu", steps=16, turns=2)


def test_turns_too_short_to_be_timed_are_refused(measured, data):
    with pytest.raises(ConventionError, match="4 steps in 2 turns leave 2"):
        take_turns({"full": measured[0]}, [data], "cpu", steps=4, turns=2)


def test_a_way_that_cannot_be_says_why_and_leaves_the_others_alone(data, tmp_path):
    what = goal(cameras=("wrist",))
    turn = take_turn(Way(what, config(), tmp_path / "full"), [data], "cpu", 3, is_last=True)
    assert "no camera 'wrist'" in turn.refused
    assert dataclasses.replace(turn, refused="") == costs.Turn(3)
