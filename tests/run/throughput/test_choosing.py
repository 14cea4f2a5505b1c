import pytest

from vla_bench.run.throughput.choosing import SHARE, choose, requests_of
from vla_bench.run.throughput.demand import Demand
from vla_bench.run.throughput.supply import Supply

GROWING = [Demand(n, 10.0 * n, float(n)) for n in (1, 2, 4, 8, 16)]


def supply(batch, per_s, device="cuda"):
    return Supply(batch, per_s, batch / per_s, device)


def test_without_a_policy_to_wait_for_as_many_simulators_as_still_gain_something():
    assert choose(GROWING, []).workers == 16
    full = [*GROWING[:3], Demand(8, 40.5, 4.05), Demand(16, 39.0, 3.9)]
    chosen = choose(full, [])
    assert (chosen.workers, chosen.batch, chosen.wait_s) == (4, 1, 0.0), "the others gain next to nothing"


def test_simulators_ask_for_less_than_the_share_of_what_the_policy_gives():
    chosen = choose(GROWING, [supply(1, 50), supply(8, 120)])
    assert chosen.limit == "simulators"
    assert chosen.demand_per_s < SHARE * chosen.supply_per_s
    assert (chosen.workers, chosen.batch) == (8, 8)


def test_a_policy_slower_than_one_simulator_is_the_limit_and_is_kept_busy():
    chosen = choose(GROWING, [supply(1, 4)])
    assert chosen.limit == "policy"
    assert chosen.requests_per_s == pytest.approx(4)
    assert chosen.workers == 1 or chosen.workers == 2, "more simulators than keep it busy gain nothing"


def test_what_is_predicted_exceeds_neither_demand_nor_supply():
    for limit in (3, 30, 300):
        for device in ("cpu", "cuda"):
            supplies = [supply(b, limit * b**0.5, device) for b in (1, 2, 4, 8)]
            chosen = choose(GROWING, supplies)
            assert chosen.requests_per_s <= min(chosen.demand_per_s, chosen.supply_per_s) + 1e-9


def test_a_policy_on_the_simulators_processor_takes_their_time():
    apart, together = (choose(GROWING, [supply(1, 500, device)]) for device in ("cuda", "cpu"))
    assert together.requests_per_s == pytest.approx(1 / (1 / 160 + 1 / 500))
    assert together.requests_per_s < apart.requests_per_s


def test_a_request_waits_neither_longer_than_others_need_nor_longer_than_the_answer():
    assert choose(GROWING, [supply(1, 1000)]).wait_s == 0
    for supplies in ([supply(1, 50), supply(8, 120)], [supply(1, 50), supply(16, 400)]):
        chosen = choose(GROWING, supplies)
        arriving = (chosen.batch - 1) / chosen.demand_per_s
        assert 0 < chosen.wait_s <= min(arriving, chosen.batch / chosen.supply_per_s) + 1e-12


def test_two_devices_give_twice_as_much():
    one, two = (choose(GROWING, [supply(1, 60)], devices=n) for n in (1, 2))
    assert two.supply_per_s == 2 * one.supply_per_s == 120
    assert two.workers > one.workers


def test_a_batch_is_never_larger_than_those_who_could_fill_it():
    chosen = choose(GROWING[:2], [supply(1, 5), supply(2, 8), supply(4, 100)])
    assert chosen.batch <= chosen.workers == 2


def test_an_episode_lasts_its_beginning_and_its_requests():
    assert [requests_of(220, chunk) for chunk in (1, 8, 12, 300)] == [220, 28, 19, 1]
    chosen = choose(GROWING[:1], [])
    assert chosen.episodes_per_h(20, start_s=1.0) == pytest.approx(3600 / (1 + 20 / 10))
