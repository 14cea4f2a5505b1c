"""`POST /act`, as the original speaks it, from both sides."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from support.goldens import goldens
from support.servers import STATE, Draws, Looks, observations, serving

from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.remote.conventions import Address, from_commands, read_conventions, to_commands
from vla_bench.policy.remote.dialects import JSON_NUMPY
from vla_bench.policy.remote.exchange import AnswerError
from vla_bench.policy.remote.native import EpisodeId
from vla_bench.policy.remote.rest import RestExchange
from vla_bench.policy.remote.wire import parse_json
from vla_bench.types import Observation

SPEC = PolicySpec(cameras=("agentview", "robot0_eye_in_hand"), proprio=STATE)
SEEN = observations(2, SPEC)
BRIDGE = read_conventions(read_card("openvla-rest"))


@pytest.fixture(scope="module")
def recorded():
    folder = goldens("openvla")
    assert folder is not None
    found = json.loads((folder / "deploy_rest.json").read_text())
    return {case["name"]: case for case in found["cases"]} | {"oft": {"response_body": found["oft_shape"]}}


@contextlib.contextmanager
def original(status, body, heard=None):
    """A server that answers every `POST /act` as recorded, and knows nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def do_POST(self):
            request = self.rfile.read(int(self.headers["Content-Length"]))
            if heard is not None:
                heard.append((self.path, json.loads(request)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def post(address, body):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", "/act", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.parametrize("name", ["plain", "unnorm_key", "double_encoded"])
def test_recorded_answers_are_read_as_the_original_meant_them(recorded, name):
    case = recorded[name]
    with original(case["status"], case["response_body"]) as address:
        policy = load_policy(f"openvla-rest:{address}")
        policy.reset("x", 0)
        (command,) = policy.act(SEEN[:1]).actions
    meant = np.array([[0.1, -0.2, 0.3, 0.0, 0.05, -0.06, 0.996078431372549]])
    np.testing.assert_allclose(command, to_commands(meant, BRIDGE)[0], atol=1e-12)
    assert command[6] == -1.0, "the gripper opens"


def test_requests_are_written_as_recorded(recorded):
    """A json-numpy picture, the instruction as it stands, and the key where the card has one."""
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    for name, key in (("plain", None), ("unnorm_key", "bridge_orig")):
        body = json.loads(recorded[name]["request_body"])
        exchange = RestExchange(BRIDGE.model_copy(update={"unnorm_key": key}), Address("127.0.0.1", 1), None)
        seen = Observation({"agentview": image}, {}, body["instruction"], 0)
        assert json.loads(exchange.encode(EpisodeId("e", "", 0, 0), [seen])) == body


def test_what_the_original_answers_to_a_bad_request_is_an_error(recorded):
    for name, message in (("bad_payload", "answered 'error': it failed"), ("not_json", "HTTP status 422: ")):
        case = recorded[name]
        with original(case["status"], case["response_body"]) as address:
            policy = load_policy(f"openvla-rest:{address}")
            policy.reset("x", 0)
            with pytest.raises(AnswerError, match=f"REST server at {address} .*{message}"):
                policy.act(SEEN[:1])


def test_ofts_list_of_actions_is_a_chunk(recorded):
    heard: list[tuple[str, dict]] = []
    eight = json.dumps(json.loads(recorded["oft"]["response_body"]) * 4)
    with original(200, eight, heard) as address:
        policy = load_policy(f"openvla-oft-rest:{address}")
        policy.reset("x", 0)
        actions = policy.act(SEEN[:1]).actions
    assert actions.shape == (8, 7)
    np.testing.assert_array_equal(actions[0], [0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(actions[1], [1, 1, 1, 1, 1, 1, -1])
    path, body = heard[0]
    assert path == "/act"
    assert set(body) == {"full_image", "wrist_image", "state", "instruction"}
    wrist = JSON_NUMPY.read(body["wrist_image"])
    np.testing.assert_array_equal(wrist, SEEN[0].images["robot0_eye_in_hand"][:, ::-1])
    with original(200, recorded["oft"]["response_body"]) as address:
        policy = load_policy(f"openvla-oft-rest:{address}")
        policy.reset("x", 0)
        with pytest.raises(AnswerError, match=r"shape \(2, 7\); policy 'openvla-oft-rest' expects \(8, 7\)"):
            policy.act(SEEN[:1])


# ── our server ─────────────────────────────────────────────────────────────────────────────────────────


class Bridge(Looks):
    """Sees one picture of any size."""

    def __init__(self, chunk=1):
        super().__init__(chunk, proprio=())


def test_recorded_requests_are_answered_in_the_recorded_form(recorded):
    for name in ("plain", "unnorm_key", "double_encoded"):
        with serving(Bridge(), "rest") as address:
            status, body = post(address, recorded[name]["request_body"].encode())
        assert status == recorded[name]["status"]
        theirs, ours = json.loads(recorded[name]["response_body"]), json.loads(body)
        assert type(ours) is type(theirs)
        if isinstance(ours, str):
            theirs, ours = json.loads(theirs), json.loads(ours)
        assert (ours["dtype"], ours["shape"]) == (theirs["dtype"], theirs["shape"])
        image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
        instruction = "Pick Up the bowl" if name == "plain" else "x"
        seen = Observation({"agentview": image}, {}, instruction, 0)
        expected = from_commands(Bridge().act([seen]).actions, BRIDGE)[0]
        np.testing.assert_array_equal(JSON_NUMPY.read(ours), expected)


def test_a_chunk_is_answered_as_a_list():
    body = json.dumps({"image": SEEN[0].images["agentview"], "instruction": "x"}, default=JSON_NUMPY.write)
    with serving(Bridge(4), "rest") as address:
        status, answered = post(address, body.encode())
    actions = parse_json(answered, JSON_NUMPY.read)
    assert status == 200
    assert [action.shape for action in actions] == [(7,)] * 4


def test_recorded_mistakes_are_answered_with_a_reason(recorded):
    with serving(Bridge(), "rest") as address:
        for name, reason in (
            ("bad_payload", "mine at bf16 needs picture 'image'"),
            ("bad_double", "'instruction' is missing in the request; it has encoded, extra"),
            ("not_json", "5 bytes that are no JSON"),
        ):
            status, body = post(address, recorded[name]["request_body"].encode())
            assert status == 422
            assert reason in json.loads(body)["error"]
        connection = http.client.HTTPConnection(address, timeout=20)
        for method, path, status in (("GET", "/", 404), ("POST", "/other", 404), ("PUT", "/act", 501)):
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            assert response.status == status


def test_a_policy_that_looks_back_needs_a_client_that_tells_what_was():
    served = Draws(proprio=(), history=2, history_stride_s=0.2)
    body = json.dumps({"image": SEEN[0].images["agentview"], "instruction": "x"}, default=JSON_NUMPY.write)
    with serving(served, "rest") as address:
        status, answered = post(address, body.encode())
    assert (status, json.loads(answered)["error"]) == (
        422,
        "the policy looks at 2 observations, and a request has one: use vla-eval",
    )
