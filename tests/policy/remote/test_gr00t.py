"""GR00T's protocol against a peer that answers as its published server does."""

from __future__ import annotations

import contextlib
import io
import json
import threading

import msgpack
import numpy as np
import pytest
import zmq
from support.servers import STATE, card_of, observations

from vla_bench import catalog
from vla_bench.errors import ConventionError
from vla_bench.policy.arm import robot_state
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import load_policy
from vla_bench.policy.remote.exchange import AnswerError, LateServerError, LostServerError

KEYS = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
TASK = "annotation.human.action.task_description"
SEEN = observations(2, PolicySpec(cameras=("agentview", "robot0_eye_in_hand"), proprio=STATE))
CHUNK = np.random.Generator(np.random.Philox(5)).uniform(-0.5, 0.5, (16, 7))
CHUNK[:, 6] = np.arange(16) % 2  # 1 opens


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def arrays(found):
    return np.load(io.BytesIO(found["as_npy"])) if "__ndarray_class__" in found else found


def config(keys, as_text):
    said = {"delta_indices": [0], "modality_keys": keys}
    return {"__ModalityConfig_class__": True, "as_json": json.dumps(said) if as_text else said}


class Peer:
    """The published server's endpoints, in the form of N1.5 or N1.6."""

    def __init__(self, form):
        self.form, self.heard, self.wrong = form, [], {}

    def __call__(self, request):
        endpoint, data = request.get("endpoint", "get_action"), request.get("data")
        self.heard.append((endpoint, data))
        if endpoint in self.wrong:
            return self.wrong[endpoint]
        return getattr(self, endpoint)(data)

    def ping(self, data):
        return {"status": "ok", "message": "Server is running"}

    def get_modality_config(self, data):
        flat = self.form == "n15"
        names = {"video": ["image", "wrist_image"], "state": KEYS, "action": KEYS}
        return {
            kind: config([f"{kind}.{key}" if flat else key for key in keys], flat)
            for kind, keys in names.items()
        } | {"language": config([TASK], flat)}

    def reset(self, data):
        return {}

    def get_action(self, data):
        columns = dict(zip(KEYS, CHUNK.T.astype(np.float32), strict=True))
        if self.form == "n15":
            return {f"action.{key}": npy(column) for key, column in columns.items()}
        return [{key: npy(column[None, :, None]) for key, column in columns.items()}, {}]


@contextlib.contextmanager
def serving(peer):
    socket = zmq.Context.instance().socket(zmq.REP)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    stop = threading.Event()

    def work():
        while not stop.is_set():
            if socket.poll(20):
                answer = peer(msgpack.unpackb(socket.recv(), object_hook=arrays))
                socket.send(answer if isinstance(answer, bytes) else msgpack.packb(answer))
        socket.close(linger=0)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join(5)


@pytest.fixture(autouse=True)
def cards(tmp_path, monkeypatch):
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    for form in ("n15", "n16"):
        card_of(tmp_path, f"hasty-gr00t-{form}", like=f"gr00t-{form}", options={"timeout_s": 0.5})


@pytest.mark.parametrize("form", ["n15", "n16"])
def test_both_forms_are_spoken_as_published(form):
    peer = Peer(form)
    with serving(peer) as address:
        policy = load_policy(f"gr00t-{form}:{address}")
        policy.reset("lift it", 0)
        chunks = [policy.act([seen]).actions for seen in SEEN]
        policy.close()
    expected = CHUNK.astype(np.float32).astype(np.float64)
    expected[:, 6] = 1 - 2 * CHUNK[:, 6]
    np.testing.assert_array_equal(chunks, [expected] * 2)
    begin = ["reset"] if form == "n16" else []
    assert [endpoint for endpoint, _ in peer.heard] == [
        "ping",
        "get_modality_config",
        *begin,
        *["get_action"] * 2,
    ]
    for (_, data), seen in zip(peer.heard[-2:], SEEN, strict=True):
        image, numbers = seen.images["agentview"][:, ::-1], robot_state(seen)
        if form == "n15":
            np.testing.assert_array_equal(data["video.image"], image[None])
            np.testing.assert_array_equal(data["state.yaw"], [[numbers[5]]])
            np.testing.assert_array_equal(data["state.gripper"], [numbers[6:]])
            assert data[TASK] == ["lift it"]
        else:
            told = data["observation"]
            assert data["options"] is None
            np.testing.assert_array_equal(told["video"]["image"], image[None, None])
            np.testing.assert_array_equal(told["state"]["gripper"], np.float32([[numbers[6:]]]))
            assert (told["state"]["x"].dtype, told["state"]["x"].shape) == (np.float32, (1, 1, 1))
            assert told["language"] == {TASK: [["lift it"]]}


def test_other_names_are_found_before_the_first_episode():
    peer = Peer("n16")
    names = {"video": ["image"], "state": KEYS, "action": [*KEYS[:6], "left_gripper"]}
    peer.wrong["get_modality_config"] = {kind: config(keys, False) for kind, keys in names.items()}
    with serving(peer) as address, pytest.raises(ConventionError) as caught:
        load_policy(f"gr00t-n16:{address}")
    assert f"the GR00T server at {address} does not fit policy 'gr00t-n16'" in str(caught.value)
    assert "its video is ['image'], the card's ['image', 'wrist_image']" in str(caught.value)
    assert "left_gripper" in str(caught.value)


WRONG = {
    "an error": ({"error": "shape mismatch"}, "failed: shape mismatch"),
    "the old error": (b"ERROR", "failed, and does not say at what"),
    "noise": (b"\xc1\xc1", "2 bytes that are no MessagePack"),
    "nothing": ([], "list, expected a list of actions and information"),
    "a pickle": ([{"x": {"__ndarray_class__": True, "as_npy": b"\x80\x04N."}}, {}], "no .npy file"),
    "another length": ([{key: npy(np.zeros((1, 8, 1))) for key in KEYS}, {}], r"shape \(8, 7\)"),
    "two episodes": ([{key: npy(np.zeros((2, 16, 1))) for key in KEYS}, {}], "actions of 2 episodes"),
    "words": ([{key: npy(np.array(["a"])) for key in KEYS}, {}], "an array of type"),
    "missing": ([{"x": npy(np.zeros((1, 16, 1)))}, {}], "'y' is missing in the answer; it has x"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_cannot_be_used_is_one_error_that_names_both_sides(name):
    peer = Peer("n16")
    peer.wrong["get_action"], message = WRONG[name]
    with serving(peer) as address:
        policy = load_policy(f"gr00t-n16:{address}")
        policy.reset("x", 0)
        with pytest.raises(AnswerError, match=message) as caught:
            policy.act(SEEN[:1])
        assert f"the GR00T server at {address}" in str(caught.value)
        peer.wrong.clear()
        policy.reset("x", 1)
        assert policy.act(SEEN[:1]).actions.shape == (16, 7), "the socket is usable again"
        policy.close()


def test_a_server_that_falls_silent_is_late_and_can_be_asked_again_later():
    peer, calm = Peer("n15"), threading.Event()

    def slow(request):
        if request["endpoint"] == "get_action" and not calm.is_set():
            calm.wait(10)
        return peer(request)

    with serving(slow) as address:
        policy = load_policy(f"hasty-gr00t-n15:{address}")
        policy.reset("x", 0)
        with pytest.raises(LateServerError, match=rf"{address} did not answer within 0\.5 s"):
            policy.act(SEEN[:1])
        with pytest.raises(LostServerError):  # it is still busy with the first question
            policy.act(SEEN[:1])
        calm.set()
        policy.reset("x", 1)
        assert policy.act(SEEN[:1]).actions.shape == (16, 7)
        policy.close()


def test_a_token_goes_with_every_request(monkeypatch):
    monkeypatch.setenv("VLA_BENCH_TOKEN", "sesame")
    peer, tokens = Peer("n15"), []

    def guarded(request):
        tokens.append(request.get("api_token"))
        return peer(request)

    with serving(guarded) as address:
        policy = load_policy(f"gr00t-n15:{address}")
        policy.reset("x", 0)
        policy.act(SEEN[:1])
        policy.close()
    assert tokens == ["sesame"] * 3
