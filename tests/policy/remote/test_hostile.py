"""A server of ours that strangers talk to: every message gets an answer, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import http.client
import os
import socket
import sys

import msgpack
import numpy as np
import pytest
from support.servers import Looks, client, observations, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vla_bench import seeding
from vla_bench.policy.remote.vla_eval_frames import Frame, hello, read, write

MESSAGES = int(os.environ.get("VLA_BENCH_HOSTILE_MESSAGES", "200"))
OBJECTS = {"__ndarray__": True, "data": b"\0" * 96, "dtype": "|O", "shape": [2, 2, 3]}
PICTURE = {"__ndarray__": True, "data": b"\0" * 12, "dtype": "|u1", "shape": [2, 2, 3]}


def malformed(stream: np.random.Generator, seq: int) -> bytes | str:
    """One of many ways to be wrong, some of them nearly right."""
    observed = {"images": {"agentview": PICTURE}, "task_description": "x"}
    ways = [
        lambda: stream.bytes(int(stream.integers(0, 200))),
        lambda: "text " * 10,
        lambda: b"",
        lambda: msgpack.packb({"type": "observation"}),
        lambda: write(Frame("observation", {}, seq)),
        lambda: write(Frame("observation", {**observed, "images": [1]}, seq)),
        lambda: write(Frame("observation", {**observed, "task_description": 7}, seq)),
        lambda: write(Frame("observation", observed, seq)),  # the state is missing
        lambda: write(Frame("observation", {**observed, "states": np.full(8, np.nan)}, seq)),
        lambda: write(Frame("observation", {"vla_bench": {"episode": {}, "history": []}}, seq)),
        lambda: write(Frame("observation", {"vla_bench": 3}, seq)),
        lambda: write(Frame("episode_start", {"task": 4}, seq)),
        lambda: write(Frame("hello", {**hello(), "protocol_version": seq + 2}, seq)),
        lambda: write(Frame("action", {}, seq)),
        lambda: msgpack.packb({"type": "bye", "payload": {}, "seq": seq, "timestamp": 0}),
        lambda: write(Frame("observation", {**observed, "images": {"agentview": OBJECTS}}, seq)),
        lambda: msgpack.packb([[{}] * 5_000] * 30),
        lambda: b"\xdd\xff\xff\xff\xff",
        lambda: b"\x81" * 2_000,
    ]  # fmt: skip
    return ways[int(stream.integers(len(ways)))]()


def memory_mb() -> float:
    """Of this process, resident."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_malformed_messages_are_answered_one_by_one_and_leave_nothing_behind():
    stream = seeding.generator("policy", "malformed")
    seen = observations(1, Looks().spec)
    with serving(Looks(), "vla-eval") as address:
        good = client("vla-eval", address)
        good.reset("x", 0)
        expected = good.act(seen).actions.tobytes()
        before = 0.0
        with connect(f"ws://{address}", max_size=None, compression=None) as connection:
            for seq in range(MESSAGES):
                if seq == MESSAGES // 2:
                    gc.collect()
                    before = memory_mb()
                connection.send(malformed(stream, seq))
                answered = read(connection.recv(timeout=20))
                assert answered.type == "error"
                assert answered.payload["error"]
                if seq % 100 == 0:
                    assert good.act(seen).actions.tobytes() == expected
        gc.collect()
        grown = memory_mb() - before
        print(f"{MESSAGES} malformed messages; the second half grew the process by {grown:.1f} MB")
        assert grown < 5 + MESSAGES / 1000  # far less than a message
        assert good.act(seen).actions.tobytes() == expected
        good.close()


def test_openpis_server_hangs_up_after_a_mistake_and_serves_the_next():
    stream = seeding.generator("policy", "malformed", "openpi")
    seen = observations(1, Looks().spec)
    with serving(Looks(), "openpi") as address:
        for seq in range(20):
            with connect(f"ws://{address}", max_size=None, compression=None) as connection:
                connection.recv(timeout=20)
                connection.send(malformed(stream, seq))
                assert isinstance(connection.recv(timeout=20), str)
                with pytest.raises(ConnectionClosed) as closed:
                    connection.recv(timeout=20)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1011
        policy = client("openpi", address)
        policy.reset("x", 0)
        assert policy.act(seen).actions.shape == (1, 7)
        policy.close()


def talk(connection, frame):
    """Send a frame, and listen until there is nothing more."""
    connection.send(frame)
    for _ in range(10):
        connection.recv(timeout=20)


@pytest.mark.parametrize("protocol", ["vla-eval", "openpi"])
def test_a_frame_that_is_too_large_closes_its_connection_and_no_other(protocol):
    with serving(Looks(), protocol) as address:
        policy = client(protocol, address)
        with connect(f"ws://{address}", max_size=None, compression=None) as connection:
            with pytest.raises(ConnectionClosed) as closed:
                talk(connection, b"\0" * (33 * 2**20))
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
        policy.reset("x", 0)
        assert policy.act(observations(1, policy.spec)).actions.shape == (1, 7)
        policy.close()


@pytest.mark.parametrize(
    "said",
    [
        b"\0" * 1000,
        b"POST /act HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /act HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /act HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /act HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
@pytest.mark.parametrize("protocol", ["rest", "vla-eval"])
def test_bytes_that_are_no_request_are_refused_and_the_next_is_served(protocol, said):
    with serving(Looks(), protocol) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as stranger:
            answered = b""
            with contextlib.suppress(OSError):  # it may have hung up on us already
                stranger.sendall(said)
                stranger.shutdown(socket.SHUT_WR)
                answered = stranger.makefile("rb").read()
            assert b" 200 " not in answered.splitlines()[0] if answered else True
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
