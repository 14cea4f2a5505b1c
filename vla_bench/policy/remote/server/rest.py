"""`POST /act` as a server: requests stand for themselves, so that only policies without memory are served."""

from __future__ import annotations

import json
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.remote import native
from vla_bench.policy.remote.conventions import Address, Conventions
from vla_bench.policy.remote.dialects import JSON_NUMPY
from vla_bench.policy.remote.server.endpoint import HEALTH, MAX_SESSIONS, Endpoint, health, lets_in
from vla_bench.policy.remote.server.served import Served
from vla_bench.policy.remote.server.session import Session
from vla_bench.policy.remote.wire import MAX_BYTES, WireError, field, parse_json

READ_S = 30.0
TWICE = "encoded"  # a request that is JSON in a JSON string is answered so too


def listen(served: Served, conventions: Conventions, address: Address, token: str | None) -> Endpoint:
    """Listen for clients of OpenVLA's REST protocol.

    Raises:
        MissingCapabilityError: The policy keeps state between the requests of an episode.
        OSError: The address cannot be listened at.
    """
    if not served.stateless:
        raise MissingCapabilityError(
            f"{served.name} keeps an episode's state, and REST has no episodes: use vla-eval or openpi"
        )
    handler = type("Handler", (_Handler,), {"served": served, "conventions": conventions, "token": token})
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    server = type("Server", (_Server,), {"address_family": family})((address.host, address.port), handler)
    bound = server.socket.getsockname()

    def shutdown() -> None:
        server.shutdown()
        server.server_close()

    return Endpoint(Address(bound[0], bound[1]), server.serve_forever, shutdown)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, and the connection is closed."""

    served: Served
    conventions: Conventions
    token: str | None
    timeout = READ_S

    def do_GET(self) -> None:
        """Health, and what a client of ours is told."""
        path = self.path.partition("?")[0]
        if path in HEALTH:
            self._send(HTTPStatus.OK, health(self.served).encode())
        elif not lets_in(self.headers.get("Authorization"), self.token):
            self._fail(HTTPStatus.UNAUTHORIZED, "a token is needed")
        elif path == f"/{native.KEY}":
            self._send(HTTPStatus.OK, _json(self.served.greeting().to_plain()))
        else:
            self._fail(HTTPStatus.NOT_FOUND, f"there is POST /act, GET /{native.KEY} and GET {HEALTH[0]}")

    def do_POST(self) -> None:
        """An observation → actions."""
        if not lets_in(self.headers.get("Authorization"), self.token):
            return self._fail(HTTPStatus.UNAUTHORIZED, "a token is needed")
        if self.path.partition("?")[0] != "/act":
            return self._fail(HTTPStatus.NOT_FOUND, "there is POST /act")
        if self.served.sessions >= MAX_SESSIONS:
            return self._fail(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_SESSIONS} requests are being answered")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BYTES:
            return self._fail(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"up to {MAX_BYTES} bytes, and their number"
            )
        session = Session(self.served, self.conventions)
        try:
            return self._send(HTTPStatus.OK, _acted(self.rfile.read(int(length)), session))
        except WireError as error:
            return self._fail(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except TimeoutError:
            return self._fail(HTTPStatus.REQUEST_TIMEOUT, f"no whole request within {READ_S:g} s")
        except Exception as error:  # whatever it was, the client hears of it and the server goes on
            return self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        finally:
            session.close()

    def _fail(self, status: HTTPStatus, reason: str) -> None:
        self._send(status, _json({"error": reason}))

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client is gone

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


def _acted(body: bytes, session: Session) -> bytes:
    request = parse_json(body, JSON_NUMPY.read)
    twice = isinstance(request, dict) and list(request) == [TWICE]
    if twice:
        request = parse_json(field(request, TWICE, str).encode(), JSON_NUMPY.read)
    if isinstance(request, dict) and native.KEY in request:
        chunk = session.chunk(request[native.KEY])
        answer: Any = native.answer(chunk.actions, chunk.timings_ms)
    elif session.history > 1:
        raise WireError(
            f"the policy looks at {session.history} observations, and a request has one: use vla-eval"
        )
    else:
        instruction = field(request, "instruction", str, where="request")
        actions = session.chunk_for(request, request, instruction)
        answer = actions[0] if len(actions) == 1 else list(actions)
    written = _json(answer)
    return json.dumps(written.decode()).encode() if twice else written


def _json(value: Any) -> bytes:
    return json.dumps(value, default=JSON_NUMPY.write).encode()
