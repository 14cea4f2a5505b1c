"""Servers on WebSockets: a thread a connection, frames of bounded size, no compression, no pings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from vla_bench.policy.remote.conventions import Address, Conventions
from vla_bench.policy.remote.server.endpoint import HEALTH, MAX_SESSIONS, Endpoint, health, lets_in
from vla_bench.policy.remote.server.served import Served
from vla_bench.policy.remote.server.session import Session
from vla_bench.policy.remote.wire import MAX_BYTES

Converse = Callable[[ServerConnection, Session], None]
_quiet = logging.getLogger("vla_bench.serve.websockets")
_quiet.setLevel(logging.CRITICAL)  # a client that breaks off is no news


def listen_at(
    served: Served, conventions: Conventions, address: Address, token: str | None, converse: Converse
) -> Endpoint:
    """Listen; `converse` answers one connection until it is closed.

    Raises:
        OSError: The address cannot be listened at.
    """

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        if request.path.partition("?")[0] in HEALTH:
            response = connection.respond(HTTPStatus.OK, health(served))
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
            return response
        if not lets_in(request.headers.get("Authorization"), token):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "a token is needed\n")
        if served.sessions >= MAX_SESSIONS:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_SESSIONS} sessions are open\n")
        return None

    def handle(connection: ServerConnection) -> None:
        session = Session(served, conventions)
        try:
            converse(connection, session)
        except ConnectionClosed:
            pass  # whichever way, the client is gone
        finally:
            session.close()

    server = serve(
        handle, address.host, address.port, process_request=admit, compression=None, max_size=MAX_BYTES,
        ping_interval=None, logger=_quiet,
    )  # fmt: skip
    bound = server.socket.getsockname()
    return Endpoint(Address(bound[0], bound[1]), server.serve_forever, server.shutdown)
