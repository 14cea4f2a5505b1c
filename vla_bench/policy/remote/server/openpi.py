"""openpi's protocol as a server: it speaks first, and after an error it hangs up."""

from __future__ import annotations

import time
from typing import Any

from websockets.frames import CloseCode
from websockets.sync.server import ServerConnection

from vla_bench.policy.remote import native
from vla_bench.policy.remote.conventions import Address, Conventions
from vla_bench.policy.remote.dialects import OPENPI
from vla_bench.policy.remote.server.endpoint import Endpoint
from vla_bench.policy.remote.server.served import Served
from vla_bench.policy.remote.server.session import Session
from vla_bench.policy.remote.server.websocket import listen_at
from vla_bench.policy.remote.wire import field, pack, unpack


def listen(served: Served, conventions: Conventions, address: Address, token: str | None) -> Endpoint:
    """Listen for clients of openpi's protocol."""
    metadata = pack({native.KEY: served.greeting().to_plain()}, OPENPI.write)

    def converse(connection: ServerConnection, session: Session) -> None:
        connection.send(metadata)
        for data in connection:
            began = time.perf_counter()
            try:
                answer = _acted(unpack(data, OPENPI.read), session)
            except Exception as error:  # as the original: said in text, then the connection is closed
                connection.send(f"{type(error).__name__}: {error}")
                connection.close(
                    CloseCode.INTERNAL_ERROR, "the request failed; the message before says at what"
                )
                return
            timing = {"infer_ms": 1e3 * (time.perf_counter() - began)}
            connection.send(pack({**answer, "server_timing": timing}, OPENPI.write))

    return listen_at(served, conventions, address, token, converse)


def _acted(request: Any, session: Session) -> dict[str, Any]:
    if isinstance(request, dict) and native.KEY in request:
        chunk = session.chunk(request[native.KEY])
        return native.answer(chunk.actions, chunk.timings_ms)
    instruction = field(request, "prompt", str, where="request")
    return {"actions": session.chunk_for(request, request, instruction)}
