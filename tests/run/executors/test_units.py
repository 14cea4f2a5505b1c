import pytest
from support.runs import plan_of
from support.worlds import BRIDGE

from vla_bench.run.executors.units import RETRIES, Schedule, by_task, in_order, units_of

OTHER = "bridge_base/stack_the_green_block_on_the_yellow_block"


@pytest.fixture(scope="module")
def units():
    plan = plan_of(tasks=(BRIDGE, OTHER), policies=("noop", "random"), episodes=3)
    return units_of(plan.items)


def test_a_unit_is_an_episode_with_all_its_arms(units):
    assert len(units) == 6
    for unit in units:
        assert len({item.episode for item in unit.items}) == 1
        assert [item.arm.policy for item in unit.items] == ["noop", "random"]


def test_a_worker_stays_with_its_task_and_another_one_takes_another(units):
    schedule = Schedule(units, by_task)
    first, second = schedule.take(), schedule.take()
    assert (first.task_id, second.task_id) == (BRIDGE, OTHER)
    assert [schedule.take(first).task_id for _ in range(2)] == [BRIDGE] * 2
    assert schedule.take(first).task_id == OTHER, "its own task is over"
    assert len(schedule) == 1


def test_in_order_everybody_takes_what_comes_next(units):
    schedule = Schedule(units, in_order)
    assert [schedule.take() for _ in range(6)] == units
    assert schedule.take() is None


def test_what_is_put_back_comes_next_and_only_what_is_left_of_it(units):
    schedule = Schedule(units, by_task)
    unit = schedule.take()
    left = unit.after([unit.items[0].key])
    schedule.over(unit)
    schedule.put_back(left)
    schedule.put_back(())
    assert schedule.take().items == left == unit.items[1:]


def test_an_item_that_kills_is_played_again_so_many_times(units):
    schedule, item = Schedule(units, by_task), units[0].items[0]
    assert [schedule.died(item) for _ in range(RETRIES + 1)] == [True] * RETRIES + [False]
    assert schedule.died(units[1].items[0])
