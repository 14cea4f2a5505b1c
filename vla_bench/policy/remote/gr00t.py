"""GR00T's protocol as a client: ZeroMQ requests in MessagePack, in the forms of N1.5 and of N1.6.

The first releases sent pickles both ways, and reading one would execute what a server sends: they are not
spoken to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from vla_bench.errors import ConventionError
from vla_bench.policy.remote.conventions import Address, Conventions, pictures, states
from vla_bench.policy.remote.dialects import GR00T
from vla_bench.policy.remote.exchange import AnswerError, LateServerError, LostServerError, Offer, Reply
from vla_bench.policy.remote.native import EpisodeId
from vla_bench.policy.remote.wire import MAX_BYTES, WireError, field, pack, parse_json, unpack
from vla_bench.types import Observation

TASK = "annotation.human.action.task_description"
PING_S = 2.0  # a ping costs nothing: a server that does not answer it is not there


class Gr00tExchange:
    """The form of N1.5: flat names, no batch dimension."""

    resends = True

    def __init__(self, conventions: Conventions, address: Address, card_name: str, token: str | None) -> None:
        self.theirs = f"the GR00T server at {address}"
        self._ours, self._address, self._card_name, self._token = conventions, address, card_name, token
        self._socket: zmq.Socket[bytes] | None = None

    def open(self) -> Offer:
        """Ping the server and compare its names and horizon with the card's."""
        self._renew()
        self._call("ping", timeout_s=min(PING_S, self._ours.timeout_s))
        try:
            modalities = self._call("get_modality_config")
            problems = self._differences(modalities)
        except WireError as error:
            raise AnswerError(f"{self.theirs} answered the greeting with {error}") from error
        if problems:
            raise ConventionError(
                f"{self.theirs} does not fit policy {self._card_name!r}: {'; '.join(problems)}"
            )
        return Offer(self._ours)

    def begin(self, instruction: str, seed: int) -> None:
        """Nothing is said: this form has no episodes."""

    def encode(self, episode: EpisodeId, history: Sequence[Observation]) -> bytes:
        """Write the newest observation."""
        return self._request("get_action", self._observation(history[-1]))

    def transfer(self, frame: bytes) -> bytes | str:
        """Send an observation and wait for its actions."""
        return self._ask(frame, self._ours.timeout_s)

    def decode(self, frame: bytes | str) -> Reply:
        """Read the parts of the actions and join them."""
        return Reply(self._joined(self._understood(frame)))

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _observation(self, seen: Observation) -> Any:
        return {
            **{f"video.{name}": image[None] for name, image in pictures(seen, self._ours).items()},
            **{f"state.{name}": part[None] for name, part in states(seen, self._ours).items()},
            TASK: [seen.instruction],
        }

    def _joined(self, found: Any) -> NDArray[Any]:
        """(T, A) of the parts' (T, dims)."""
        parts = [self._part(found, f"action.{name}", 2) for name in self._ours.actions]
        return np.concatenate([part.reshape(part.shape[0], -1) for part in parts], axis=1)

    def _part(self, found: Any, name: str, dimensions: int) -> NDArray[Any]:
        part = field(found, name, np.ndarray, where="answer")
        # one number a step may come without a dimension of its own
        if part.ndim not in (dimensions - 1, dimensions) or part.dtype.kind not in "iuf" or not part.size:
            raise WireError(f"{name!r} is {part.dtype} of shape {part.shape}")
        return part

    def _differences(self, modalities: Any) -> list[str]:
        """What of the server's configuration is not the card's."""
        ours = {
            "video": set(self._ours.cameras),
            "state": set(self._ours.state),
            "action": set(self._ours.actions),
        }
        problems = []
        for kind, names in ours.items():
            config = field(modalities, kind, (dict, str), where="modality configuration")
            config = parse_json(config.encode()) if isinstance(config, str) else config
            keys = field(config, "modality_keys", list, where=f"{kind} modality")
            theirs = {str(key).removeprefix(f"{kind}.") for key in keys}
            if theirs != names:
                problems.append(f"its {kind} is {sorted(theirs)}, the card's {sorted(names)}")
        return problems

    def _renew(self) -> None:
        """A socket that has sent and not received can do nothing more; another one can."""
        self.close()
        made = zmq.Context.instance().socket(zmq.REQ)
        for option, value in ((zmq.LINGER, 0), (zmq.IPV6, 1), (zmq.MAXMSGSIZE, MAX_BYTES)):
            made.setsockopt(option, value)
        made.connect(f"tcp://{self._address}")
        self._socket = made

    def _request(self, endpoint: str, data: Any = None) -> bytes:
        token = {} if self._token is None else {"api_token": self._token}
        body = {} if data is None else {"data": data}
        return pack({"endpoint": endpoint, **body, **token}, GR00T.write)

    def _call(self, endpoint: str, data: Any = None, *, timeout_s: float | None = None) -> Any:
        return self._understood(self._ask(self._request(endpoint, data), timeout_s or self._ours.timeout_s))

    def _ask(self, frame: bytes, timeout_s: float) -> bytes:
        """Send a request and wait for the answer.

        Raises:
            LostServerError: Nobody answers in time.
        """
        if self._socket is None:
            raise LostServerError(f"{self.theirs} is not connected")
        try:
            self._socket.send(frame, zmq.NOBLOCK)
            if not self._socket.poll(round(1e3 * timeout_s), zmq.POLLIN):
                self.close()
                raise LateServerError(f"{self.theirs} did not answer within {timeout_s:g} s")
            return self._socket.recv(zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise LostServerError(f"{self.theirs} cannot be reached: {error}") from error

    def _understood(self, frame: bytes | str) -> Any:
        """What an answer says.

        Raises:
            WireError: It is no MessagePack.
            AnswerError: The server failed.
        """
        if frame == b"ERROR":
            raise AnswerError(f"{self.theirs} failed, and does not say at what")
        found = unpack(frame, GR00T.read)
        if isinstance(found, Mapping) and "error" in found:
            raise AnswerError(f"{self.theirs} failed: {str(found['error'])[:500]}")
        return found


class Gr00tN16Exchange(Gr00tExchange):
    """The form of N1.6 and later: nested names, a batch dimension, and a call that begins an episode."""

    def begin(self, instruction: str, seed: int) -> None:
        """Reset the server's policy."""
        self._call("reset", {"options": None})

    def _observation(self, seen: Observation) -> Any:
        video = {name: image[None, None] for name, image in pictures(seen, self._ours).items()}
        state = {name: part[None, None].astype(np.float32) for name, part in states(seen, self._ours).items()}
        observation = {"video": video, "state": state, "language": {TASK: [[seen.instruction]]}}
        return {"observation": observation, "options": None}

    def _joined(self, found: Any) -> NDArray[Any]:
        if not isinstance(found, list) or len(found) != 2:
            raise WireError(f"{type(found).__name__}, expected a list of actions and information")
        parts = [self._part(found[0], name, 3) for name in self._ours.actions]
        if any(len(part) != 1 for part in parts):
            raise WireError(f"actions of {len(parts[0])} episodes, one was asked for")
        return np.concatenate([part[0].reshape(part.shape[1], -1) for part in parts], axis=1)


FORMS = {"gr00t-n15": Gr00tExchange, "gr00t-n16": Gr00tN16Exchange}


def connect(conventions: Conventions, address: Address, card_name: str, token: str | None) -> Gr00tExchange:
    """Make a client of GR00T's protocol, in the form that the card names."""
    return FORMS[conventions.protocol](conventions, address, card_name, token)
