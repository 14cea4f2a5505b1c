"""vla-eval's protocol as a server: one action for every observation; an error leaves the connection open."""

from __future__ import annotations

from typing import Any

from websockets.sync.server import ServerConnection

from vla_bench.errors import ConventionError
from vla_bench.policy.remote import native
from vla_bench.policy.remote.conventions import Address, Conventions
from vla_bench.policy.remote.server.endpoint import Endpoint
from vla_bench.policy.remote.server.served import Served
from vla_bench.policy.remote.server.session import Session
from vla_bench.policy.remote.server.websocket import listen_at
from vla_bench.policy.remote.vla_eval_frames import PROTOCOL_VERSION, Frame, hello, read, write
from vla_bench.policy.remote.wire import WireError, field

SIZES = {"position": 3, "rotation": 3, "gripper": 1, "state": 8}


def listen(served: Served, conventions: Conventions, address: Address, token: str | None) -> Endpoint:
    """Listen for clients of vla-eval's protocol."""
    greeting = hello(
        model_server="vla_bench",
        capabilities={},
        **_declared(served, conventions),
        **{native.KEY: served.greeting(chunk_length=1).to_plain()},
    )

    def converse(connection: ServerConnection, session: Session) -> None:
        for data in connection:
            answer = _answer(data, session, conventions, greeting)
            if answer is not None:
                connection.send(write(answer))

    return listen_at(served, conventions, address, token, converse)


def _answer(
    data: bytes | str, session: Session, conventions: Conventions, greeting: dict[str, Any]
) -> Frame | None:
    """What is said to a frame; nothing to the marks of an episode."""
    seq = 0
    try:
        frame = read(data)
        seq = frame.seq
        if frame.type == "hello":
            _require_version(frame.payload)
            return Frame("hello", greeting, seq)
        if frame.type == "observation":
            return Frame("action", _acted(frame.payload, session, conventions), seq)
        if frame.type == "episode_start":
            task = field({"task": {}, **frame.payload}, "task", dict)
            session.begin(str(task.get("name", ""))[: native.MAX_TEXT])
        elif frame.type == "action":
            raise WireError("an action, which is what a server sends")
    except Exception as error:  # whatever it was, the client hears of it and the server goes on
        return Frame("error", {"error": f"{type(error).__name__}: {error}"}, seq)
    return None


def _acted(payload: dict[str, Any], session: Session, conventions: Conventions) -> dict[str, Any]:
    if native.KEY in payload:
        chunk = session.action(payload[native.KEY])
        return {"actions": chunk.actions[0], native.KEY: dict(chunk.timings_ms)}
    images = field(payload, "images", dict, where="observation")
    instruction = field(payload, "task_description", str, where="observation")
    return {"actions": session.action_for(images, payload, instruction)}


def _require_version(said: dict[str, Any]) -> None:
    theirs = said.get("protocol_version")
    if theirs != PROTOCOL_VERSION:
        raise ConventionError(
            f"the client ({str(said.get('harness_version'))[:60]}) speaks version {theirs!r:.40} of vla-eval"
            f"'s protocol, this server {PROTOCOL_VERSION}"
        )


def _declared(served: Served, conventions: Conventions) -> dict[str, Any]:
    """What clients that know nothing of us are told: formats, and what they shall send."""
    spec, formats = served.spec, conventions.accepts
    needed = [name for name, camera in conventions.cameras.items() if camera in spec.cameras]
    needed += list(conventions.state) if spec.proprio else []
    parts = {
        part: {"name": part, "dims": SIZES[part], "format": formats[part][0]}
        for part in SIZES
        if part in formats
    }
    pictures = {
        name: {"name": "image", "dims": 0, "format": "rgb_hwc_uint8"}
        for name in needed
        if name in conventions.cameras
    }
    state = {"state": parts["state"]} if spec.proprio and "state" in parts else {}
    language = {"language": {"name": "language", "dims": 0, "format": "language"}}
    return {
        "action_spec": {part: parts[part] for part in parts if part != "state"},
        "observation_spec": {**pictures, **state, **language},
        "observation_params": {
            **{conventions.on_request[name]: True for name in needed if name in conventions.on_request},
            **({"quat_no_antipodal": True} if spec.proprio else {}),
        },
    }
