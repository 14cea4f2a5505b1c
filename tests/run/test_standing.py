import dataclasses
import sys

import pytest
from rich.console import Console
from support.records import make_record
from support.runs import plan_of
from support.worlds import BRIDGE

from vla_bench.account.statistics.rates import wilson
from vla_bench.errors import UnknownNameError
from vla_bench.run.display.live import Live
from vla_bench.run.display.standing import Standing
from vla_bench.run.display.usage import Gpu, Sampler, ask_gpus, processor_times, read_gpus
from vla_bench.run.display.views import EVERY_S, Plain, duration, make_view

PLAN = plan_of(tasks=(BRIDGE,), policies=("noop", "random"), episodes=10, budget={"steps": 1})
NOOP, RANDOM = dict.fromkeys(item.arm for item in PLAN.items)


def ended(arm, status="success", wall_s=2.0, steps=20):
    return make_record(status, policy=arm.policy, wall_s=wall_s, steps=steps)


def test_counts_are_of_all_sessions_and_errors_of_earlier_ones_are_still_to_be_played():
    keys = [item.key for item in PLAN.items if item.arm == NOOP]
    standing = Standing(PLAN.items, {keys[0]: "success", keys[1]: "failure", keys[2]: "error"})
    assert (standing.arms[NOOP].trials, standing.arms[NOOP].left, standing.total.planned) == (2, 8, 20)
    standing.see(ended(NOOP, "error"), 2.0)
    assert (standing.arms[NOOP].recorded, standing.arms[NOOP].left) == (3, 7)
    assert str(standing.total) == "1 succeeded, 1 failed, 1 errors"
    assert standing.summary()["noop fp32 blocking zero/success_rate"] == 0.5


def test_the_interval_is_wilsons():
    standing = Standing(PLAN.items, confidence=0.9)
    for status in ("success", "failure", "success"):
        standing.see(ended(NOOP, status), 2.0)
    found = wilson(2, 3, 0.9)
    assert standing.interval(standing.total) == (found.low, found.high)
    assert standing.interval(standing.arms[RANDOM]) is None


def test_time_left_does_not_count_what_earlier_sessions_did_nor_how_long_policies_loaded():
    done = {item.key: "success" for item in PLAN.items[:10]}
    standing = Standing(PLAN.items, done)
    assert standing.left_s(500.0) is None
    standing.see(ended(NOOP), 1002.0)  # began at 1000
    standing.see(ended(RANDOM), 1004.0)
    assert standing.left_s(1004.0) == pytest.approx(8 * 2.0)
    assert standing.left_s(1005.0) == pytest.approx(8 * 2.0 - 1.0), "it goes down while an episode is played"
    assert standing.steps_per_s(1004.0) == pytest.approx(40 / 4)


def test_time_left_knows_arms_that_take_longer_and_episodes_side_by_side():
    standing = Standing(PLAN.items)
    for number in range(5):  # two workers, one an arm: 2 s and 6 s
        standing.see(ended(NOOP, wall_s=2.0), 2.0 * (number + 1))
    standing.see(ended(RANDOM, wall_s=6.0), 10.0)
    busy, elapsed = 5 * 2.0 + 6.0, 10.0
    assert standing.left_s(10.0) == pytest.approx((5 * 2.0 + 9 * 6.0) * elapsed / busy)


def test_episodes_that_cannot_begin_have_an_estimate_too():
    standing = Standing(PLAN.items)
    for number in range(4):
        standing.see(ended(NOOP, "error", wall_s=0.0, steps=0), float(number))
    assert standing.left_s(3.0) == pytest.approx(16 * 3.0 / 4)


def test_a_standing_does_not_grow_with_episodes():
    standing = Standing(PLAN.items)
    standing.see(ended(NOOP), 1.0)
    before = _size(standing)
    for number in range(1000):
        standing.see(dataclasses.replace(ended(NOOP), key=str(number)), 1.0)
    assert _size(standing) == before


def _size(standing):
    return len(vars(standing)) + len(standing.arms) + sys.getsizeof(standing.arms)


def test_a_line_is_written_at_every_tenth_and_after_a_while(capfd):
    now = [0.0]
    plan = plan_of(tasks=(BRIDGE,), policies=("noop",), episodes=40, budget={"steps": 1})
    standing = Standing(plan.items)
    view = Plain(standing, lambda: now[0])
    for _ in range(8):
        now[0] += 1.0
        standing.see(ended(NOOP, wall_s=1.0), now[0])
        view.saw()
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(" episodes")[0] for line in lines] == ["4 of 40", "8 of 40"]
    assert "8/8 = 100.0% [67.6, 100.0], 0 errors, 20.0 steps/s" in lines[1]
    assert lines[1].endswith("0:00:32 left")
    now[0] += EVERY_S
    standing.see(ended(NOOP, wall_s=EVERY_S), now[0])
    view.saw()
    assert capfd.readouterr().err.startswith("9 of 40 episodes")


@pytest.mark.parametrize(("height", "rows"), [(40, 3), (7, 1)])
def test_a_terminal_shows_a_row_an_arm_while_they_fit_else_totals(height, rows):
    console = Console(width=120, height=height, record=True, force_terminal=True, highlight=False)
    standing = Standing(PLAN.items)
    standing.see(ended(NOOP), 0.0)
    with console.capture() as captured:
        console.print(Live(standing, console).render())
    lines = [line for line in captured.get().splitlines() if "/" in line and "left" not in line]
    assert len(lines) == rows
    assert "all 2 arms" in lines[-1]
    assert "1/20" in lines[-1]
    assert ("noop fp32 blocking zero" in captured.get()) == (rows == 3)


def test_messages_stay_above_the_table_as_they_were_said():
    console = Console(width=60, height=30, record=True, force_terminal=True, highlight=False)
    with console.capture() as captured, Live(Standing(PLAN.items), console) as view:
        view.say("worker [0] ended\nby SIGKILL")
    text = captured.get()
    assert "worker [0] ended by SIGKILL" in text
    assert text.index("SIGKILL") < text.rindex("all 2 arms")


def test_an_unknown_view_is_named():
    with pytest.raises(UnknownNameError, match="unknown view 'lively'; did you mean 'live'"):
        make_view("lively", Standing(PLAN.items))


def test_what_nvidias_program_says_is_read_and_what_it_does_not_know_left_out():
    said = "87, 30123, 81559\n[N/A], [N/A], 81559\n0, 3, 81559\n"
    assert read_gpus(said) == (Gpu(0.87, 30123, 81559), Gpu(0.0, 3, 81559))
    assert str(read_gpus(said)[0]) == "GPU 87% 29/80 GiB"
    assert ask_gpus(()) == ()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_processors_say_how_long_they_were_busy():
    busy, ticks = processor_times()
    assert 0 < busy < ticks
    with Sampler() as sampler:
        assert str(sampler.latest) == ""


def test_durations_are_hours_minutes_and_seconds():
    assert [duration(s) for s in (0.4, 59.6, 3600, 90061)] == ["0:00:00", "0:01:00", "1:00:00", "25:01:01"]
