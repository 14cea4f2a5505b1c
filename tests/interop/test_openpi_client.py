"""The real openpi-client on the other end of our server; and its arrays and pictures against ours."""

from __future__ import annotations

import numpy as np
import pytest
from support.servers import Looks, client, observations, serving

from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import read_card
from vla_bench.policy.remote.conventions import padded, pictures, read_conventions, states
from vla_bench.policy.remote.dialects import OPENPI
from vla_bench.policy.remote.wire import pack, unpack
from vla_bench.types import Observation

REASON = "openpi-client is not installed: pip install --no-deps openpi-client==0.1.2"
theirs = pytest.importorskip("openpi_client.websocket_client_policy", reason=REASON)
image_tools = pytest.importorskip("openpi_client.image_tools", reason=REASON)
msgpack_numpy = pytest.importorskip("openpi_client.msgpack_numpy", reason=REASON)

pytestmark = pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")
SEEN = observations(3, PolicySpec(cameras=("agentview", "robot0_eye_in_hand")))
LIBERO = read_conventions(read_card("openpi"))


class Sees(Looks):
    """Two pictures of any size."""

    def __init__(self, chunk):
        both = {"cameras": ("agentview", "robot0_eye_in_hand"), "image_px": (256, 256)}
        super().__init__(chunk, **both, proprio=(), control_hz=20)


def test_our_server_serves_their_client():
    with serving(Sees(10), "openpi", token="key") as address:
        host, _, port = address.partition(":")
        asking = theirs.WebsocketClientPolicy(host, int(port), api_key="key")
        assert asking.get_server_metadata()["vla_bench"]["policy"] == "mine"
        for step, seen in enumerate(SEEN):
            sent = {**pictures(seen, LIBERO), **states(seen, LIBERO), "prompt": seen.instruction}
            answer = asking.infer(sent)
            upright = {camera: sent[name][:, ::-1].copy() for name, camera in LIBERO.cameras.items()}
            expected = Sees(10).act([Observation(upright, {}, seen.instruction, step * 50_000_000)])
            np.testing.assert_array_equal(answer["actions"], expected.actions)
            assert answer["server_timing"]["infer_ms"] >= 0
        with pytest.raises(RuntimeError, match="'prompt' is missing in the request"):
            asking.infer({"observation/image": np.zeros((4, 4, 3), np.uint8)})
        asking._ws.close()


def test_our_client_and_theirs_get_the_same_from_our_server():
    with serving(Sees(10), "openpi") as address:
        ours = client("openpi", address)
        ours.reset("lift it", 0)
        for seen in SEEN:
            upright = Observation(seen.images, {}, seen.instruction, 7)
            np.testing.assert_array_equal(ours.act([upright]).actions, Sees(10).act([upright]).actions)
        ours.close()


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        np.float32([[0.1, np.nan]]),
        np.zeros((0, 7)),
        np.float64(2.5),
    ],
    ids=str,
)
def test_arrays_are_written_as_theirs_and_read_as_theirs(value):
    assert pack({"a": value}, OPENPI.write) == msgpack_numpy.packb({"a": value})
    np.testing.assert_array_equal(unpack(msgpack_numpy.packb({"a": value}), OPENPI.read)["a"], value)
    np.testing.assert_array_equal(msgpack_numpy.unpackb(pack({"a": value}, OPENPI.write))["a"], value)


@pytest.mark.parametrize("shape", [(256, 256), (180, 100), (100, 181), (224, 224), (7, 9)])
def test_pictures_are_resized_as_theirs(shape):
    image = np.random.Generator(np.random.Philox(1)).integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(padded(image, 224), image_tools.resize_with_pad(image, 224, 224))
