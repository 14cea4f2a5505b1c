"""What must be true of every schedule, on a world in which nothing happens but time."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.lab import Continuing, Lab, Signed, delayed, lab_task, play_in_lab

from vla_bench.run.latency.draws import Trace
from vla_bench.run.pacing import PACINGS
from vla_bench.run.rollout import Rollout, play
from vla_bench.types import Episode

CHUNKED = ("chunk_sync", "chunk_sync@wait", "chunk_async", "chunk_async@free", "chunk_async@restart+wait")
SINGLE = ("realtime", "realtime@wait", "realtime@free")
PERIODS = st.integers(1, 5)  # ticks
DELAYS = st.lists(st.integers(0, 48).map(lambda n: n / 4), min_size=1, max_size=8)  # ticks, quarters too
CHUNKS = st.integers(1, 6).flatmap(lambda length: st.tuples(st.just(length), st.integers(1, length)))
BUDGETS = st.sampled_from(
    [{"steps": 7}, {"time_s": 0.5}, {"steps": 4, "time_s": 0.32}, {"time_s": 0.06}, {"steps": 1}]
)


@st.composite
def arms(draw):
    """(pacing, chunk length, executed)"""
    pacing = draw(st.sampled_from((*CHUNKED, *SINGLE)))
    return (pacing, *((1, 1) if pacing in SINGLE else draw(CHUNKS)))


def test_every_mode_is_tried_here():
    tried = {pacing.partition("@")[0] for pacing in (*CHUNKED, *SINGLE)}
    assert tried == set(PACINGS) - {"blocking"}


@settings(max_examples=40)
@given(arms(), PERIODS, BUDGETS, st.sampled_from([np.inf, 1, 9]), st.sampled_from([1, 3]))
def test_without_latency_every_pacing_is_blocking_action_for_action(
    arm, period, budget, succeeds_at, history
):
    pacing, length, executed = arm

    def all_of(pacing):
        policy, frames = Signed(length, history=history, history_stride_s=2 * period * 0.02), []
        settings = {"chunk_executed": executed, "on_step": lambda: frames.append(len(frames))}
        lab, _, outcome = play_in_lab(
            pacing, policy, lab_task(period, **budget), succeeds_at=succeeds_at, **settings
        )
        keys = ("status", "cause", "steps", "ticks", "task_s", "budget_ended", "command_hz")
        ages = outcome["inferences"].observation_age_ms, outcome["inferences"].staleness_ms
        return lab.signed(), policy.seen, frames, [outcome[key] for key in keys], ages

    assert all_of(pacing) == all_of("blocking")


@settings(max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 8), PERIODS, st.booleans())
def test_a_constant_delay_is_real_time_chunking(length, executed, delay, period, free):
    """prev[s : s + d], then new[d : s], where d ≤ s ≤ H − d."""
    executed = min(executed, length)
    delay = min(delay, executed, length - executed)
    slots = 5 * executed
    lab, _, _ = play_in_lab(
        "chunk_async@free" if free else "chunk_async", Signed(length),
        lab_task(period, time_s=slots * period * 0.02),
        chunk_executed=executed, delays=delayed(delay * period),
    )  # fmt: skip
    made = lab.signed()
    begun = made[::period]
    assert all(command is None for tick, command in enumerate(made) if tick % period)
    first = [(0, j) for j in range(executed + delay)]
    previous = first if free else [None] * delay + first[delay:]
    for turn in itertools.count(1):
        at = turn * executed * period  # where the chunk was observed
        if len(previous) >= slots:
            break
        previous += [(at, j) for j in range(delay, executed + delay)]
    assert begun == previous[:slots]


@settings(max_examples=40)
@given(arms(), PERIODS, DELAYS)
def test_only_ticks_count(arm, period, delays):
    pacing, length, executed = arm
    traces = [
        play_in_lab(
            pacing, Signed(length), lab_task(period, time_s=0.8), chunk_executed=executed, delays=of
        )[0].signed()
        for of in (delayed(*delays), delayed(*np.ceil(delays)))
    ]  # fmt: skip
    assert traces[0] == traces[1]


@settings(max_examples=40)
@given(PERIODS, CHUNKS, DELAYS, BUDGETS)
def test_blocking_does_not_depend_on_latency_but_takes_its_time(period, chunk, delays, budget):
    length, executed = chunk

    def blocked(of):
        return play_in_lab(
            "blocking", Signed(length), lab_task(period, **budget), chunk_executed=executed, delays=of
        )

    (lab, run, outcome), (ideal, _, _) = blocked(delayed(*delays)), blocked(delayed(0))
    assert lab.signed() == ideal.signed()
    calls = len(outcome["inferences"].inference_ms)
    waited = sum(round(delays[min(i, len(delays) - 1)] * 0.02 * 1e9) for i in range(calls)) / 1e9
    assert outcome["task_s"] == pytest.approx(outcome["simulated_s"] + waited)
    assert outcome["command_hz"] == pytest.approx(run.steps / outcome["task_s"])


def test_one_tick_of_latency_is_the_real_time_markov_decision_process():
    """Ramstedt and Pal 2019: what is seen at t decides what is done at t + 1."""
    lab, _, outcome = play_in_lab("realtime", Signed(), lab_task(time_s=1.0), delays=delayed(1))
    assert lab.signed() == [None] + [(seen, 0) for seen in range(49)]
    assert set(outcome["inferences"].observation_age_ms) == {20.0}


@settings(max_examples=40)
@given(arms(), PERIODS, DELAYS)
def test_nothing_older_follows_and_every_request_sees_the_newest(arm, period, delays):
    pacing, length, executed = arm
    policy = Signed(length)
    task = lab_task(period, time_s=1.6)
    lab = Lab(task)
    asked = []
    policy.act, act = lambda seen: (asked.append(len(lab.commands)), act(seen))[1], policy.act
    run = Rollout(lab, policy, chunk_executed=executed, delays=delayed(*delays))
    outcome = play(run, Episode(task.id, seed=0), pacing, 0)
    assert outcome["status"] == "failure"
    assert [seen for (seen,) in policy.seen] == asked, "a request carries what is seen at that tick"
    assert all(later - earlier >= executed * period for earlier, later in itertools.pairwise(asked))
    signed = [command for command in lab.signed() if command is not None]
    assert signed == sorted(signed), "neither an older chunk nor an action twice"
    assert all(seen in asked for seen, _ in signed)
    assert run.steps == len(signed)


@settings(max_examples=40)
@given(
    arms(),
    PERIODS,
    st.lists(st.integers(0, 300), min_size=1, max_size=20),
    st.sampled_from(["iid", "block", "sequential"]),
)
def test_neither_the_hosts_speed_nor_the_order_of_episodes_matters(arm, period, samples_ms, draw):
    pacing, length, executed = arm
    source = Trace(np.array(samples_ms) * 1_000_000, draw)
    episodes = [Episode("bridge_base/x", seed=seed) for seed in range(3)]

    def played(order, sleep_s):
        found = {}
        for episode in order:
            lab = Lab(lab_task(period, time_s=0.6))
            policy = Signed(length, sleep_s)
            run = Rollout(lab, policy, chunk_executed=executed, delays=source.delays(episode.key))
            play(run, episode, pacing, 0)
            found[episode.key] = lab.signed(), policy.seen, run.frozen_ns
        return found

    slow = played(reversed(episodes), lambda: random.choice([0, 0, 0.0005]))
    assert slow == played(episodes, lambda: 0.0)


@settings(max_examples=40)
@given(arms(), PERIODS, DELAYS, st.integers(1, 12))
def test_a_budget_of_steps_gives_the_last_action_its_period_too(arm, period, delays, steps):
    pacing, length, executed = arm
    late = pacing in ("chunk_async", "chunk_async@free") and max(delays) > (length - 1) * period
    assume(not late)  # a chunk that is late altogether is never used
    lab, run, outcome = play_in_lab(
        pacing, Signed(length), lab_task(period, steps=steps, time_s=600.0),
        chunk_executed=executed, delays=delayed(*delays),
    )  # fmt: skip
    given_at = [tick for tick, command in enumerate(lab.commands) if command is not None]
    assert (run.steps, outcome["budget_ended"]) == (steps, "steps")
    assert run.ticks == given_at[-1] + period


def test_a_leftover_is_what_lies_after_the_observation_and_its_delay_the_longest_of_late():
    policy = Continuing(8)
    lab, _, _ = play_in_lab(
        "chunk_async@rtc", policy, lab_task(2, time_s=20 * 2 * 0.02),
        chunk_executed=4, delays=delayed(2, 5, 1, 1),
    )  # fmt: skip
    (first, d1), (second, d2), (third, d3), *_ = policy.given
    assert first == [(0, j) for j in range(4, 8)]
    assert second == [(8, j) for j in range(4, 8)]
    assert third == [(16, j) for j in range(4, 8)]
    assert (d1, d2, d3) == (1, 3, 3)
    replaced, _, _ = play_in_lab(
        "chunk_async",
        Signed(8),
        lab_task(2, time_s=20 * 2 * 0.02),
        chunk_executed=4,
        delays=delayed(2, 5, 1, 1),
    )
    assert lab.signed() == replaced.signed()
