"""vla-eval's protocol as a client: also how LeRobot's policies, GR00T and others are served by that project.

The server keeps the chunk and gives one action for every observation, so every one is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vla_bench.errors import ConventionError
from vla_bench.policy.remote import native, vla_eval_frames
from vla_bench.policy.remote.conventions import ARM_ACTION, Address, Conventions, pictures, states
from vla_bench.policy.remote.exchange import AnswerError, Offer, Reply, actions_of
from vla_bench.policy.remote.native import EpisodeId, read_greeting
from vla_bench.policy.remote.vla_eval_frames import Frame, hello, read, write
from vla_bench.policy.remote.websocket import WebSocketLink
from vla_bench.policy.remote.wire import WireError, field
from vla_bench.types import Observation

UNDECLARED = "raw"  # a format that says nothing
# what a server may ask of a harness, and this one cannot do
IMPOSSIBLE = {"absolute_action": "absolute actions"}


class VlaEvalExchange:
    """A connection is a session; the server keeps its episode's chunk, so that nothing is sent twice."""

    resends = False

    def __init__(self, conventions: Conventions, address: Address, card_name: str, token: str | None) -> None:
        self.theirs = f"the vla-eval server at {address}"
        self._card, self._ours, self._card_name = conventions, conventions, card_name
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        hint = f"set {conventions.token_variable} to its token"
        self._link = WebSocketLink(
            address, conventions.timeout_s, headers=headers, theirs=self.theirs, hint=hint
        )
        self._seq, self._greeting, self._in_episode = 0, None, False

    def open(self) -> Offer:
        """Connect, greet, and compare what both sides declare."""
        self._link.open()
        self._in_episode = False
        self._send("hello", hello(benchmark="vla-bench"))
        try:
            return self._read_greeting(self._link.receive())
        except WireError as error:
            raise AnswerError(f"{self.theirs} answered the greeting with {error}") from error

    def begin(self, instruction: str, seed: int) -> None:
        """End the last episode and begin one; the server answers neither."""
        if self._in_episode:
            self._send("episode_end", {})
        self._send("episode_start", {"task": {"name": instruction}, "mode": "sync"})
        self._in_episode = True

    def encode(self, episode: EpisodeId, history: Sequence[Observation]) -> bytes:
        """Write the newest observation; for a server of ours, what its policy asks for."""
        self._seq += 1
        payload: dict[str, Any] = {"task_description": history[-1].instruction}
        if self._greeting is not None:
            payload[native.KEY] = native.request(episode, history, self._greeting.spec)
        else:
            payload |= {"images": pictures(history[-1], self._ours), **states(history[-1], self._ours)}
        return write(Frame("observation", payload, self._seq))

    def transfer(self, frame: bytes) -> bytes | str:
        """Send an observation and wait for its action."""
        self._link.send(frame)
        return self._link.receive()

    def decode(self, frame: bytes | str) -> Reply:
        """Read the action of the last observation."""
        answered = read(frame)
        if answered.type == "error" and answered.seq != self._seq:
            raise WireError(f"an error of before: {_told(answered)}")  # its own answer is still to come
        if answered.type == "error":
            raise AnswerError(f"{self.theirs} failed: {_told(answered)}")
        if answered.type != "action" or answered.seq != self._seq:
            raise WireError(f"{answered.type!r} number {answered.seq}, expected 'action' number {self._seq}")
        payload = answered.payload
        actions = actions_of(payload.get("actions", payload.get("action")))
        measured = payload.get(native.KEY) if self._greeting is not None else None
        return Reply(actions, native.read_timings(measured))

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _read_greeting(self, data: bytes | str) -> Offer:
        answered = read(data)
        if answered.type != "hello":
            raise WireError(f"{answered.type!r}: {_told(answered)}")
        said = answered.payload
        self._require_version(said)
        name = str(said.get("model_server", ""))[:100]
        self._greeting = read_greeting(said.get(native.KEY), self.theirs)
        if self._greeting is None:
            self._ours = asked(said, self._card, self._who(name), self._card_name)
        return Offer(self._ours, self._greeting, name)

    def _send(self, kind: str, payload: dict[str, Any]) -> None:
        self._seq += 1
        self._link.send(write(Frame(kind, payload, self._seq)))

    def _who(self, name: str) -> str:
        return f"{self.theirs} ({name})" if name else self.theirs

    def _require_version(self, said: Mapping[str, Any]) -> None:
        theirs, ours = said.get("protocol_version"), vla_eval_frames.PROTOCOL_VERSION
        if theirs != ours:
            raise ConventionError(
                f"{self.theirs} speaks version {theirs!r:.40} of its protocol, "
                f"policy {self._card_name!r} {ours}"
            )


def asked(said: Mapping[str, Any], card: Conventions, theirs: str, card_name: str) -> Conventions:
    """The card's conventions, as far as the server asks for what they offer.

    Raises:
        ConventionError: The server declares a format that the card does not accept, actions of another size,
            or asks for something that is not offered; all differences are named.
        WireError: Its greeting is not one.
    """
    wanted = field({"observation_params": {}, **said}, "observation_params", dict)
    problems = [f"it asks for {what}" for key, what in IMPOSSIBLE.items() if wanted.get(key)]
    declared = {**_formats(said, "observation_spec"), **_formats(said, "action_spec")}
    for part, (form, _) in declared.items():
        accepted = card.accepts.get(part)
        if accepted is not None and form not in (UNDECLARED, *accepted):
            problems.append(f"its {part} is {form!r}, the card accepts {' or '.join(map(repr, accepted))}")
    sizes = [size for _, size in _formats(said, "action_spec").values()]
    if sizes and all(sizes) and sum(sizes) != ARM_ACTION:
        problems.append(f"its actions have {sum(sizes)} numbers, an arm's {ARM_ACTION}")
    if problems:
        raise ConventionError(f"{theirs} does not fit policy {card_name!r}: {'; '.join(problems)}")
    left_out = {name for name, key in card.on_request.items() if not wanted.get(key)}
    return card.model_copy(
        update={
            "cameras": {name: camera for name, camera in card.cameras.items() if name not in left_out},
            "state": {name: part for name, part in card.state.items() if name not in left_out},
            # their harness takes the shorter way round unless the server asks it not to
            "rotation": "robosuite" if wanted.get("quat_no_antipodal") else "shortest",
        }
    )


def _formats(said: Mapping[str, Any], key: str) -> dict[str, tuple[str, int]]:
    """Part → declared format and size; 0 where the size says nothing."""
    parts = field({key: {}, **said}, key, dict)
    return {
        str(part): (field(spec, "format", str, where=key), field(spec, "dims", int, where=key))
        for part, spec in parts.items()
    }


def _told(frame: Frame) -> str:
    return str(frame.payload.get("error", frame.payload))[:500]


def connect(conventions: Conventions, address: Address, card_name: str, token: str | None) -> VlaEvalExchange:
    """Make a client of vla-eval's protocol."""
    return VlaEvalExchange(conventions, address, card_name, token)
