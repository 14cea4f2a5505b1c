"""Our clients over our servers: the same actions as in this process, bit for bit, whoever else is asking."""

from __future__ import annotations

import http.client
import json
import threading

import numpy as np
import pytest
from support.servers import STATE, Answers, Draws, Looks, Remembers, client, observations, serving

from vla_bench.errors import MissingCapabilityError, UnknownNameError
from vla_bench.policy.base import PolicySpec, precision_report
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.remote.exchange import AnswerError
from vla_bench.policy.remote.server.endpoint import CARDS, listen
from vla_bench.policy.remote.server.served import Served
from vla_bench.types import PrecisionReport

SEED = 2**62 + 12345


def played(policy, seen, *, seed=SEED, history=1):
    """The chunks of an episode that sees these observations."""
    policy.reset(seen[0].instruction, seed)
    windows = [seen[max(0, i - history + 1) : i + 1] for i in range(len(seen))]
    return [policy.act([window[0]] * (history - len(window)) + window).actions for window in windows]


@pytest.mark.parametrize("protocol", CARDS)
@pytest.mark.parametrize("make", [Looks, Draws])
def test_actions_are_those_of_this_process_bit_for_bit(protocol, make):
    keys = {
        "proprio": STATE,
        "cameras": ("agentview", "robot0_eye_in_hand"),
        "history": 2,
        "history_stride_s": 0.2,
    }
    seen = observations(6, make(**keys).spec, "put the “carrot” on the plate")
    expected = played(make(**keys), seen, history=2)
    with serving(make(**keys), protocol) as address:
        policy = client(protocol, address)
        for _ in range(2):  # a second episode on the same connection is as good
            for ours, theirs in zip(played(policy, seen, history=2), expected, strict=True):
                assert ours.dtype == np.float64
                assert ours.tobytes() == theirs.tobytes()
        assert policy.spec == make(**keys).spec
        policy.close()


@pytest.mark.parametrize("protocol", ["vla-eval", "openpi"])
def test_a_policy_with_memory_is_served_one_episode_at_a_time(protocol):
    seen = observations(4, Remembers().spec)
    expected = played(Remembers(), seen)
    with serving(Remembers(), protocol) as address:
        first, second = client(protocol, address), client(protocol, address)
        assert np.array_equal(played(first, seen), expected)
        with pytest.raises(AnswerError, match="mine at bf16 serves one episode at a time"):
            played(second, seen)
        first.close()
        assert eventually(lambda: np.array_equal(played(second, seen), expected))
        second.close()


def eventually(works, attempts=100):
    """Whether it works after a while: a server hears of a closed connection when it hears of it."""
    for _ in range(attempts):
        try:
            return works()
        except AnswerError:
            threading.Event().wait(0.05)
    return works()


def test_rest_has_no_episodes_and_refuses_a_policy_with_memory():
    with (
        pytest.raises(MissingCapabilityError, match="REST has no episodes: use vla-eval or openpi"),
        serving(Remembers(), "rest"),
    ):
        pass


def test_vla_evals_server_keeps_the_chunk_and_gives_one_action_for_every_observation():
    served = Looks(chunk=4)
    seen = observations(6, served.spec)
    chunks = played(Looks(chunk=4), seen)
    with serving(served, "vla-eval", executed=3) as address:
        policy = client("vla-eval", address)
        assert policy.spec.chunk_length == 1
        for _ in range(2):  # what is left of a chunk is forgotten at the end of the episode
            actions = played(policy, seen[:5])
            expected = [*chunks[0][:3], *chunks[3][:2]]
            np.testing.assert_array_equal(np.concatenate(actions), expected)
        policy.close()
    assert len(served.batches) == 4


@pytest.mark.parametrize("protocol", ["openpi", "rest"])
def test_whole_chunks_come_where_the_protocol_has_them(protocol):
    seen = observations(2, Looks(chunk=4).spec)
    with serving(Looks(chunk=4), protocol) as address:
        policy = client(protocol, address)
        assert np.array_equal(played(policy, seen), played(Looks(chunk=4), seen))
        policy.close()


class Waits(Looks):
    """Its first answer waits until all clients have asked."""

    def __init__(self, clients, **spec):
        super().__init__(**spec)
        self.asked, self.clients = threading.Event(), clients

    def act_batch(self, batch):
        if not self.batches:
            self.asked.wait(20)
        return super().act_batch(batch)


@pytest.mark.parametrize("protocol", CARDS)
def test_what_is_asked_meanwhile_becomes_a_batch(protocol):
    clients, served = 5, Waits(5)
    seen = observations(clients * 3, served.spec)
    expected = played(Looks(), seen)
    answers: dict[int, np.ndarray] = {}

    def play(k, policy):
        policy.reset("lift it", k)
        for i in range(k, len(seen), clients):
            answers[i] = policy.act([seen[i]]).actions

    with serving(served, protocol, max_batch=4) as address:
        policies = [client(protocol, address) for _ in range(clients)]
        threads = [threading.Thread(target=play, args=pair) for pair in enumerate(policies)]
        for thread in threads:
            thread.start()
        threading.Event().wait(0.3)
        served.asked.set()
        for thread in threads:
            thread.join(30)
        for policy in policies:
            policy.close()
    assert [answers[i].tobytes() for i in range(len(seen))] == [chunk.tobytes() for chunk in expected]
    # the first batch is answered one by one as well, to see what answering together changes
    looked_at = next(size for size in served.batches if size > 1)
    assert sum(served.batches) == len(seen) + looked_at
    assert 1 < max(served.batches) <= 4


def test_with_batches_of_one_a_policy_is_asked_one_by_one():
    served = Waits(1)
    served.asked.set()
    seen = observations(3, served.spec)
    with serving(served, "vla-eval", max_batch=1) as address:
        policies = [client("vla-eval", address) for _ in range(3)]
        threads = [threading.Thread(target=played, args=(policy, seen)) for policy in policies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for policy in policies:
            policy.close()
    assert served.batches == [1] * 9


class Picky(Looks):
    """Does not take black pictures."""

    def act_batch(self, batch):
        if any(not history[-1].images["agentview"].any() for history in batch):
            raise ValueError("a black picture")
        return super().act_batch(batch)


def test_what_one_client_got_wrong_is_not_the_fault_of_the_others():
    good, bad = observations(2, Picky().spec)
    bad.images["agentview"][:] = 0  # type: ignore[index]
    with serving(Picky(), "vla-eval") as address:
        policies = [client("vla-eval", address) for _ in range(3)]
        outcomes: dict[int, object] = {}

        def play(k):
            policies[k].reset("x", k)
            try:
                outcomes[k] = policies[k].act([bad if k == 1 else good]).actions.tobytes()
            except AnswerError as error:
                outcomes[k] = str(error)

        threads = [threading.Thread(target=play, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        right = Looks().act([good]).actions.tobytes()
        assert (outcomes[0], outcomes[2]) == (right, right)
        assert "failed: ValueError: a black picture" in str(outcomes[1])
        policies[1].reset("x", 1)
        assert policies[1].act([good]).actions.tobytes() == right, "the connection is still good"
        for policy in policies:
            policy.close()


def test_phases_add_up_to_the_call_and_transport_is_a_part_of_inference():
    seen = observations(1, Looks().spec)
    with serving(Looks(), "openpi") as address:
        policy = client("openpi", address)
        policy.reset("x", 0)
        spent = policy.act(seen).timings_ms
        policy.close()
    assert set(spent) == {"preprocess", "inference", "inference.transport", "postprocess"}
    assert all(ms >= 0 for ms in spent.values())
    assert spent["inference"] - spent["inference.transport"] == pytest.approx(0.01)


@pytest.mark.parametrize("protocol", CARDS)
def test_a_token_is_asked_for_and_health_is_not(protocol, monkeypatch):
    with serving(Looks(), protocol, token="open sesame") as address:
        for token in (None, "open sesam", "öffne dich"):
            monkeypatch.delenv("VLA_BENCH_TOKEN", raising=False)
            if token is not None:
                monkeypatch.setenv("VLA_BENCH_TOKEN", token)
            if token != "öffne dich":
                with pytest.raises(
                    MissingCapabilityError, match="does not let us in; set VLA_BENCH_TOKEN to its"
                ):
                    client(protocol, address)
        monkeypatch.setenv("VLA_BENCH_TOKEN", "open sesame")
        client(protocol, address).close()
        for path in ("/health", "/healthz"):
            said = json.loads(get(address, path))
            assert (said["status"], said["policy"]) == ("ok", "mine at bf16")


def get(address, path):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    return response.read()


def test_a_policys_report_comes_with_the_greeting():
    served = Looks()
    served.precision_report = PrecisionReport("bf16", "torch 2", "cpu", "bfloat16", parameters=7)  # type: ignore[attr-defined]
    for protocol in CARDS:
        with serving(served, protocol) as address:
            policy = client(protocol, address)
            assert precision_report(policy) == served.precision_report
            policy.close()


def test_what_cannot_be_served_says_so_before_it_listens():
    card = read_card("expert")
    with pytest.raises(MissingCapabilityError, match="policy 'expert' sees the state of the simulation"):
        Served(load_policy("expert"), card, "fp32")
    served = Served(Answers(), card, "fp32")
    with pytest.raises(UnknownNameError, match="unknown protocol 'openpy'; did you mean 'openpi'"):
        listen(served, "openpy", host="127.0.0.1", port=0)
    with serving(Looks(), "rest") as address:
        for protocol in CARDS:
            with pytest.raises(MissingCapabilityError, match=f"cannot listen at {address}: .*in use"):
                listen(
                    Served(Looks(), card, "fp32"), protocol, host="127.0.0.1", port=int(address.split(":")[1])
                )
    served.close()


def test_a_server_of_ours_says_itself_what_its_policy_wants_to_see():
    spec = PolicySpec(
        cameras=("front", "side"), image_px=(9, 7), proprio=("joints",), action_size=14, control_hz=None
    )
    served = Looks()
    served.spec = spec
    with serving(served, "vla-eval") as address:
        policy = client("vla-eval", address)
        assert policy.spec == spec
        policy.close()
