"""OpenVLA's and OpenVLA-OFT's `POST /act` as a client: JSON, with arrays as json-numpy writes them."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.remote import native
from vla_bench.policy.remote.conventions import Address, Conventions, pictures, states
from vla_bench.policy.remote.dialects import JSON_NUMPY
from vla_bench.policy.remote.exchange import (
    AnswerError,
    LateServerError,
    LostServerError,
    Offer,
    Reply,
    actions_of,
)
from vla_bench.policy.remote.native import EpisodeId, Greeting, read_greeting
from vla_bench.policy.remote.wire import MAX_BYTES, WireError, field, parse_json
from vla_bench.types import Observation

FAILED = "error"  # what the original answers, with status 200, whatever went wrong


class RestExchange:
    """Requests stand for themselves; each has a connection of its own."""

    resends = True

    def __init__(self, conventions: Conventions, address: Address, token: str | None) -> None:
        self.theirs = f"the REST server at {address}"
        self._ours, self._address, self._token = conventions, address, token
        self._greeting: Greeting | None = None

    def open(self) -> Offer:
        """See that somebody is there, and whether it is a server of ours."""
        status, body = self._send("GET", f"/{native.KEY}")
        if status == HTTPStatus.OK:
            try:
                found = parse_json(body, JSON_NUMPY.read)
            except WireError as error:
                raise AnswerError(f"{self.theirs} answered the greeting with {error}") from error
            self._greeting = read_greeting(found, self.theirs)
        return Offer(self._ours, self._greeting)

    def begin(self, instruction: str, seed: int) -> None:
        """Nothing is said: the protocol has no episodes."""

    def encode(self, episode: EpisodeId, history: Sequence[Observation]) -> bytes:
        """Write the newest observation; for a server of ours, what its policy asks for."""
        if self._greeting is not None:
            body: dict[str, Any] = {native.KEY: native.request(episode, history, self._greeting.spec)}
        else:
            seen = history[-1]
            body = {**pictures(seen, self._ours), **states(seen, self._ours), "instruction": seen.instruction}
            if self._ours.unnorm_key is not None:
                body["unnorm_key"] = self._ours.unnorm_key
        return json.dumps(body, default=JSON_NUMPY.write).encode()

    def transfer(self, frame: bytes) -> bytes | str:
        """Post an observation and wait for its actions."""
        status, body = self._send("POST", "/act", frame)
        if status != HTTPStatus.OK:
            raise AnswerError(f"{self.theirs} failed with HTTP status {status}: {_excerpt(body)}")
        return body

    def decode(self, frame: bytes | str) -> Reply:
        """Read the actions: one array, a list of them, or either as JSON in a JSON string."""
        found = parse_json(frame if isinstance(frame, bytes) else frame.encode(), JSON_NUMPY.read)
        if isinstance(found, str) and found != FAILED:
            found = parse_json(found.encode(), JSON_NUMPY.read)
        if isinstance(found, str):
            raise AnswerError(f"{self.theirs} answered {found[:100]!r}: it failed, and does not say at what")
        if self._greeting is None:
            return Reply(actions_of(found))
        actions = actions_of(field(found, "actions", object, where="answer"))
        return Reply(actions, native.read_timings(found.get("timings_ms")))

    def close(self) -> None:
        """Nothing is kept open."""

    def _send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of an answer.

        Raises:
            LostServerError: Nobody answers, or not in time.
            MissingCapabilityError: We are not let in.
            AnswerError: What comes is no HTTP, or too much.
        """
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        timeout_s = self._ours.timeout_s
        connection = http.client.HTTPConnection(self._address.host, self._address.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            found = _read(response, time.monotonic() + timeout_s)
        except TimeoutError as error:
            raise LateServerError(f"{self.theirs} did not answer within {timeout_s:g} s") from error
        except OSError as error:
            raise LostServerError(f"{self.theirs} cannot be reached: {error}") from error
        except (http.client.HTTPException, WireError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise AnswerError(f"{self.theirs} does not answer as such a server: {problem:.300}") from error
        finally:
            connection.close()
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            hint = f"set {self._ours.token_variable} to its token"
            raise MissingCapabilityError(f"{self.theirs} does not let us in; {hint}")
        return response.status, found


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """A body of bounded size, by a deadline for all of it."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(2**20):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise WireError(f"a body of more than {MAX_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _excerpt(body: bytes) -> str:
    return body[:300].decode("utf-8", "replace")


def connect(conventions: Conventions, address: Address, card_name: str, token: str | None) -> RestExchange:
    """Make a client of OpenVLA's or OFT's REST protocol."""
    return RestExchange(conventions, address, token)
