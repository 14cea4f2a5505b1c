"""openpi's protocol as a client: the server speaks first, then one answer for every request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vla_bench.policy.remote import native
from vla_bench.policy.remote.conventions import Address, Conventions, pictures, states
from vla_bench.policy.remote.dialects import OPENPI
from vla_bench.policy.remote.exchange import AnswerError, Offer, Reply, actions_of
from vla_bench.policy.remote.native import EpisodeId, Greeting, read_greeting
from vla_bench.policy.remote.websocket import WebSocketLink
from vla_bench.policy.remote.wire import WireError, field, pack, unpack
from vla_bench.types import Observation


class OpenpiExchange:
    """Requests stand for themselves, so that one may be sent again on a new connection."""

    resends = True

    def __init__(self, conventions: Conventions, address: Address, token: str | None) -> None:
        self.theirs = f"the openpi server at {address}"
        self._ours = conventions
        headers = {} if token is None else {"Authorization": f"Api-Key {token}"}
        hint = f"set {conventions.token_variable} to its key"
        self._link = WebSocketLink(
            address, conventions.timeout_s, headers=headers, theirs=self.theirs, hint=hint
        )
        self._greeting: Greeting | None = None

    def open(self) -> Offer:
        """Connect and hear the server's metadata."""
        self._link.open()
        try:
            metadata = unpack(self._link.receive(), OPENPI.read)
            if not isinstance(metadata, dict):
                raise WireError(f"{type(metadata).__name__}, a map of metadata is expected")
        except WireError as error:
            raise AnswerError(f"{self.theirs} greeted with {error}") from error
        self._greeting = read_greeting(metadata.get(native.KEY), self.theirs)
        return Offer(self._ours, self._greeting)

    def begin(self, instruction: str, seed: int) -> None:
        """Nothing is said: the protocol has no episodes."""

    def encode(self, episode: EpisodeId, history: Sequence[Observation]) -> bytes:
        """Write the newest observation; for a server of ours, what its policy asks for."""
        if self._greeting is not None:
            return pack({native.KEY: native.request(episode, history, self._greeting.spec)}, OPENPI.write)
        seen = history[-1]
        named: dict[str, Any] = {**pictures(seen, self._ours), **states(seen, self._ours)}
        return pack({**named, "prompt": seen.instruction}, OPENPI.write)

    def transfer(self, frame: bytes) -> bytes | str:
        """Send an observation and wait for its actions."""
        self._link.send(frame)
        return self._link.receive()

    def decode(self, frame: bytes | str) -> Reply:
        """Read the actions; text is the traceback of a server that failed."""
        if isinstance(frame, str):
            raise AnswerError(f"{self.theirs} failed: {_last_line(frame)}")
        answered = unpack(frame, OPENPI.read)
        actions = actions_of(field(answered, "actions", object, where="answer"))
        if self._greeting is not None:
            return Reply(actions, native.read_timings(answered.get("timings_ms")))
        measured = native.read_timings(answered.get("policy_timing"))
        return Reply(actions, {"inference": measured["infer_ms"]} if "infer_ms" in measured else {})

    def close(self) -> None:
        """Hang up."""
        self._link.close()


def _last_line(text: str) -> str:
    """The end of a traceback, which says what happened."""
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else "an empty text"


def connect(conventions: Conventions, address: Address, card_name: str, token: str | None) -> OpenpiExchange:
    """Make a client of openpi's protocol."""
    return OpenpiExchange(conventions, address, token)
