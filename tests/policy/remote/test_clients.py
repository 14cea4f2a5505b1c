"""Our clients against servers that know nothing of us, lose their connection, or lie."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import msgpack
import numpy as np
import pytest
from support.servers import STATE, Looks, card_of, client, nobody, observations, serving, stranger
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from vla_bench import catalog
from vla_bench.errors import ConventionError
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.remote.conventions import pictures, read_conventions, states
from vla_bench.policy.remote.dialects import OPENPI
from vla_bench.policy.remote.exchange import AnswerError, LateServerError, LostServerError
from vla_bench.policy.remote.vla_eval_frames import Frame, hello, read, write
from vla_bench.policy.remote.wire import pack, unpack

SPEC = PolicySpec(cameras=("agentview", "robot0_eye_in_hand"), proprio=STATE)
SEEN = observations(3, SPEC)
ACTION = np.array([0.1, -0.2, 0.3, 0.0, 0.5, -0.5, 0.7])
ARM = {
    "position": {"name": "position", "dims": 3, "format": "delta_xyz"},
    "rotation": {"name": "rotation", "dims": 3, "format": "axis_angle"},
    "gripper": {"name": "gripper", "dims": 1, "format": "binary_close_positive"},
}


@pytest.fixture(autouse=True)
def cards(tmp_path, monkeypatch):
    """Cards like the shipped ones, quick to give up, and one with a short time-out."""
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    for like in ("vla-eval", "openpi", "openvla-rest", "gr00t-n15"):
        card_of(tmp_path, f"quick-{like}", like=like)
        card_of(tmp_path, f"hasty-{like}", like=like, options={"timeout_s": 0.3})
    return tmp_path


@contextlib.contextmanager
def scripted(answer):
    """A WebSocket server whose connections are each given to `answer(connection)`."""

    def handle(connection):
        with contextlib.suppress(ConnectionClosed):
            answer(connection)

    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(5)


def vla_eval(heard=None, *, said=None, answer=None, greet=None):
    """A server of vla-eval's protocol that says `said` of itself; `answer(frame)` → what is sent back."""

    def converse(connection):
        for data in connection:
            frame = read(data)
            if heard is not None:
                heard.append(frame)
            if frame.type == "hello":
                greeting = {**hello(model_server="Stub"), **({"action_spec": ARM} if said is None else said)}
                connection.send(write(Frame("hello", greeting, frame.seq)) if greet is None else greet)
            elif frame.type == "observation":
                reply = {"actions": ACTION.astype(np.float32)} if answer is None else answer(frame)
                if reply is not None:
                    sent = (
                        reply if isinstance(reply, bytes | str) else write(Frame("action", reply, frame.seq))
                    )
                    connection.send(sent)

    return scripted(converse)


def acted(name, address, seen=SEEN):
    """The actions of an episode."""
    policy = load_policy(f"{name}:{address}")
    policy.reset(seen[0].instruction, 1)
    try:
        return [policy.act([each]).actions for each in seen]
    finally:
        policy.close()


# ── what servers that know nothing of us are told ──────────────────────────────────────────────────────


def test_a_vla_eval_server_gets_every_observation_and_what_it_asked_for():
    heard: list[Frame] = []
    asks = {"observation_params": {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}}
    with vla_eval(heard, said={**asks, "action_spec": ARM}) as address:
        first = acted("vla-eval", address)
    np.testing.assert_array_equal(first, np.tile(ACTION.astype(np.float32), (3, 1, 1)))
    assert [frame.type for frame in heard[:2]] == ["hello", "episode_start"]
    assert heard[1].payload["task"] == {"name": "lift it"}
    assert heard[0].payload["protocol_version"] == 1
    said = read_conventions(read_card("vla-eval"))
    for frame, seen in zip(heard[2:], SEEN, strict=True):
        assert frame.payload["task_description"] == "lift it"
        for name, image in pictures(seen, said).items():
            np.testing.assert_array_equal(frame.payload["images"][name], image)
        np.testing.assert_array_equal(frame.payload["states"], states(seen, said)["states"])
    assert [frame.seq for frame in heard] == sorted({frame.seq for frame in heard})


def test_a_vla_eval_server_that_asks_for_nothing_gets_one_picture_and_the_instruction():
    heard: list[Frame] = []
    with vla_eval(heard, said={}) as address:
        policy = load_policy(f"vla-eval:{address}")
        assert (policy.spec.cameras, policy.spec.proprio) == (("agentview",), ())
        policy.reset("lift it", 0)
        policy.act(SEEN[:1])
        policy.reset("drop it", 0)
        policy.act(SEEN[:1])
        policy.close()
    kinds = ["hello", "episode_start", "observation", "episode_end", "episode_start", "observation"]
    assert [frame.type for frame in heard] == kinds
    assert list(heard[2].payload["images"]) == ["agentview"]
    assert set(heard[2].payload) == {"images", "task_description"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("rotation", 3, "euler_xyz"), "its rotation is 'euler_xyz', the card accepts 'axis_angle'"),
        (("position", 3, "absolute_xyz"), "its position is 'absolute_xyz'"),
        (("gripper", 1, "binary_close_negative"), "its gripper is 'binary_close_negative'"),
        (("rotation", 4, "axis_angle"), "its actions have 8 numbers, an arm's 7"),
    ],
)
def test_formats_that_differ_are_found_before_the_first_episode(changed, message):
    part, size, form = changed
    spec = {**ARM, part: {"name": part, "dims": size, "format": form}}
    with vla_eval(said={"action_spec": spec}) as address, pytest.raises(ConventionError) as caught:
        load_policy(f"vla-eval:{address}")
    told = f"the vla-eval server at {address} (Stub) does not fit policy 'vla-eval': {message}"
    assert told in str(caught.value)


def test_a_format_that_says_nothing_is_left_to_the_card():
    raw = {
        "actions": {"name": "raw", "dims": 0, "format": "raw"},
        "gripper": {"name": "g", "dims": 1, "format": "raw"},
    }
    with vla_eval(said={"action_spec": raw}) as address:
        assert len(acted("vla-eval", address)) == 3
    with (
        vla_eval(said={"observation_params": {"absolute_action": True}}) as address,
        pytest.raises(ConventionError, match="it asks for absolute actions"),
    ):
        load_policy(f"vla-eval:{address}")


def openpi(heard=None, *, metadata=None, answer=None):
    """A server of openpi's protocol."""

    def converse(connection):
        connection.send(pack(metadata or {}, OPENPI.write))
        for data in connection:
            request = unpack(data, OPENPI.read)
            if heard is not None:
                heard.append(request)
            reply = {"actions": np.tile(ACTION, (10, 1)), "policy_timing": {"infer_ms": 0.001}}
            reply = reply if answer is None else answer(request)
            if reply is None:
                return
            connection.send(reply if isinstance(reply, bytes | str) else pack(reply, OPENPI.write))

    return scripted(converse)


def test_an_openpi_server_gets_libero_as_its_client_sends_it():
    heard: list[dict] = []
    with openpi(heard, metadata={"reset_pose": [0.0]}) as address:
        chunks = acted("openpi", address)
    np.testing.assert_array_equal(chunks, np.tile(ACTION, (3, 10, 1)))
    said = read_conventions(read_card("openpi"))
    for request, seen in zip(heard, SEEN, strict=True):
        assert request["prompt"] == "lift it"
        assert request["observation/image"].shape == (224, 224, 3)
        for name, value in {**pictures(seen, said), **states(seen, said)}.items():
            np.testing.assert_array_equal(request[name], value)


# ── what servers do wrong ──────────────────────────────────────────────────────────────────────────────

OBJECTS = {"__ndarray__": True, "data": b"\0" * 56, "dtype": "|O", "shape": [7]}
WRONG = {
    "another number of actions": (
        {"actions": np.zeros((3, 7))},
        r"shape \(3, 7\); policy 'vla-eval' expects \(1, 7\)",
    ),
    "another size": ({"actions": np.zeros(6)}, r"shape \(1, 6\); policy 'vla-eval' expects \(1, 7\)"),
    "text": ("Traceback", "answered policy 'vla-eval' with a text frame"),
    "noise": (b"\xc1\xff\x00", "answered policy 'vla-eval' with 3 bytes that are no MessagePack"),
    "no map": (msgpack.packb([1, 2]), "the message is list, a map is expected"),
    "no actions": ({"action_chunk": 1}, "actions are object of shape"),
    "words": ({"actions": ["a"] * 7}, "actions are <U1 of shape"),
    "crooked": ({"actions": [[1.0], [1.0, 2.0]]}, "actions that are no array"),
    "objects": ({"actions": OBJECTS}, r"an array of type '\|O'"),
    "another number": (
        write(Frame("action", {"actions": ACTION}, 999)),
        "number 999, expected 'action' number 3",
    ),
    "another type": (write(Frame("hello", {}, 3)), "'hello' number 3, expected 'action'"),
    "an error": (write(Frame("error", {"error": "KeyError: 'state'"}, 3)), "failed: KeyError: 'state'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_cannot_be_used_is_one_error_that_names_both_sides(name):
    sent, message = WRONG[name]
    with vla_eval(answer=lambda frame: sent) as address, pytest.raises(AnswerError, match=message) as caught:
        acted("vla-eval", address)
    assert f"the vla-eval server at {address}" in str(caught.value)


def test_numbers_that_are_none_are_passed_on_as_the_policys_failure():
    with vla_eval(answer=lambda frame: {"actions": np.full(7, np.nan)}) as address:
        assert np.isnan(acted("vla-eval", address)).all()


def greeted(**said):
    return write(Frame("hello", {**hello(), **said}, 1))


@pytest.mark.parametrize(
    ("greet", "error", "message"),
    [
        (
            greeted(protocol_version=2),
            ConventionError,
            "speaks version 2 of its protocol, policy 'vla-eval' 1",
        ),
        (write(Frame("hello", {}, 1)), ConventionError, "speaks version None of its protocol"),
        (write(Frame("error", {"error": "no"}, 1)), AnswerError, "answered the greeting with 'error': no"),
        (greeted(action_spec=3), AnswerError, "'action_spec' in the message is int"),
        (greeted(action_spec={"a": {}}), AnswerError, "'format' is missing in the action_spec"),
        (
            greeted(vla_bench={"version": 9}),
            ConventionError,
            "speaks version 9 of vla_bench's part, this is 1",
        ),
        (greeted(vla_bench={"version": 1}), ConventionError, "greets with something impossible"),
        (b"garbage", AnswerError, "answered the greeting with"),
        ("text", AnswerError, "answered the greeting with a text frame"),
    ],
    ids=lambda value: "greeting" if isinstance(value, bytes) else None,  # they hold the time of writing
)
def test_a_greeting_that_cannot_be_used_is_one_error(greet, error, message):
    with vla_eval(greet=greet) as address, pytest.raises(error, match=message) as caught:
        load_policy(f"vla-eval:{address}")
    assert address in str(caught.value)


def test_an_openpi_traceback_is_told_by_its_last_line():
    trace = "Traceback (most recent call last):\n  …\nKeyError: 'x'\n"
    with openpi(answer=lambda request: trace) as address, pytest.raises(AnswerError) as caught:
        acted("openpi", address)
    assert str(caught.value) == f"the openpi server at {address} failed: KeyError: 'x'"
    with openpi(metadata=[1]) as address, pytest.raises(AnswerError, match="a map of metadata is expected"):
        load_policy(f"openpi:{address}")


def test_a_frame_larger_than_allowed_is_not_taken():
    large = b"\0" * (33 * 2**20)
    with (
        vla_eval(answer=lambda frame: large) as address,
        pytest.raises(LostServerError, match=r"went away: .*too big"),
    ):
        acted("quick-vla-eval", address)


# a ZeroMQ socket connects to nobody without a word
@pytest.mark.parametrize("name", ["quick-vla-eval", "quick-openpi", "quick-openvla-rest", "hasty-gr00t-n15"])
def test_nobody_there_is_said_after_the_attempts_that_the_card_allows(name):
    address = nobody()
    with pytest.raises(LostServerError, match=rf"server at {address} .*\(attempt 2\)"):
        load_policy(f"{name}:{address}")


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", AnswerError, "does not speak WebSocket"),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            AnswerError,
            "is no such server: HTTP status 404",
        ),
        (
            b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            LostServerError,
            "is not available: HTTP status 503",
        ),
        (b"", LostServerError, "hung up at once"),
    ],
)
def test_somebody_who_speaks_something_else_is_named(said, error, message):
    def speak(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(said)

    with stranger(speak) as address, pytest.raises(error, match=f"server at {address} {message}"):
        load_policy(f"quick-vla-eval:{address}")


def test_too_late_is_an_error_and_what_comes_then_is_no_answer_to_the_next_question():
    calm = threading.Event()

    def answer(frame):
        if not calm.is_set():
            time.sleep(0.6)
        return {"actions": ACTION * (1 if calm.is_set() else -1)}

    with vla_eval(answer=answer) as address:
        policy = load_policy(f"hasty-vla-eval:{address}")
        policy.reset("x", 0)
        with pytest.raises(LateServerError, match=rf"server at {address} did not answer within 0\.3 s"):
            policy.act(SEEN[:1])
        with pytest.raises(LostServerError, match="was lost in the course of the episode"):
            policy.act(SEEN[:1])
        calm.set()
        policy.reset("x", 1)
        np.testing.assert_array_equal(policy.act(SEEN[:1]).actions, [ACTION])
        policy.close()


def test_a_server_that_drips_is_too_late_as_a_whole():
    def drip(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"[")
            time.sleep(0.02)

    with stranger(drip) as address, pytest.raises(LostServerError, match=r"did not answer within 0\.3 s"):
        load_policy(f"hasty-openvla-rest:{address}")


def test_an_episode_that_the_server_could_not_begin_does_not_spoil_the_next():
    def converse(connection):
        for data in connection:
            frame = read(data)
            if frame.type == "hello":
                connection.send(write(Frame("hello", hello(), frame.seq)))
            elif frame.type == "episode_start" and frame.payload["task"]["name"] == "bad":
                connection.send(write(Frame("error", {"error": "episode_start_failed"}, frame.seq)))
            elif frame.type == "observation":
                connection.send(write(Frame("action", {"actions": ACTION}, frame.seq)))

    with scripted(converse) as address:
        policy = load_policy(f"vla-eval:{address}")
        policy.reset("bad", 0)
        with pytest.raises(AnswerError, match="an error of before: episode_start_failed"):
            policy.act(SEEN[:1])
        policy.reset("good", 1)
        np.testing.assert_array_equal(policy.act(SEEN[:1]).actions, [ACTION])
        policy.close()


# ── what gets lost ─────────────────────────────────────────────────────────────────────────────────────


def test_where_requests_stand_for_themselves_a_lost_connection_is_made_again():
    count = iter(range(100))

    def answer(request):  # hangs up at every second question
        return None if next(count) % 2 else {"actions": np.tile(ACTION, (10, 1))}

    with openpi(answer=answer) as address:
        assert len(acted("quick-openpi", address)) == 3


def test_where_the_server_keeps_the_episode_a_lost_connection_ends_it_and_the_next_one_is_new():
    count = iter(range(100))

    def converse(connection):
        for data in connection:
            frame = read(data)
            if frame.type == "hello":
                connection.send(write(Frame("hello", hello(), frame.seq)))
            elif frame.type == "observation":
                if next(count) == 1:
                    return
                connection.send(write(Frame("action", {"actions": ACTION}, frame.seq)))

    with scripted(converse) as address:
        policy = load_policy(f"quick-vla-eval:{address}")
        policy.reset("x", 0)
        policy.act(SEEN[:1])
        for _ in range(2):
            with pytest.raises(LostServerError, match=f"server at {address}"):
                policy.act(SEEN[:1])
        policy.reset("x", 1)
        np.testing.assert_array_equal(policy.act(SEEN[:1]).actions, [ACTION])
        policy.close()


@pytest.mark.parametrize("protocol", ["vla-eval", "openpi", "rest"])
def test_a_server_that_comes_back_is_found_and_one_that_changed_is_not_taken_for_the_same(protocol):
    with serving(Looks(), protocol) as address:
        port = int(address.rpartition(":")[2])
        policy = client(protocol, address)
        policy.reset("x", 0)
        seen = observations(1, policy.spec)
        expected = policy.act(seen).actions
    policy._conventions = policy._conventions.model_copy(update={"attempts": 2, "backoff_s": 0.01})
    policy.reset("x", 1)
    with pytest.raises(LostServerError, match=rf"{address} .*\(attempt 2\)"):
        policy.act(seen)
    policy.reset("x", 1)
    with pytest.raises(LostServerError, match=rf"{address} .*\(attempt 1\)"):  # once an episode from now on
        policy.act(seen)
    with serving(Looks(), protocol, port=port):
        policy.reset("x", 0)
        np.testing.assert_array_equal(policy.act(seen).actions, expected)
    with serving(Looks(chunk=2), protocol, port=port, executed=2) as address:
        policy.reset("x", 1)
        if protocol == "vla-eval":  # it still gives one action at a time
            policy.act(seen)
        else:
            with pytest.raises(
                (ConventionError, AnswerError), match=r"another one than before|expects \(1, 7\)"
            ):
                policy.act(seen)
    policy.close()
