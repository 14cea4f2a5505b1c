"""A WebSocket as our clients use it: binary frames of bounded size, no compression, no pings."""

from __future__ import annotations

import contextlib
from http import HTTPStatus

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.remote.conventions import Address
from vla_bench.policy.remote.exchange import AnswerError, GoneServerError, LateServerError, LostServerError
from vla_bench.policy.remote.wire import MAX_BYTES

CLOSE_S = 1.0
MAX_REASON = 2000


class WebSocketLink:
    """A connection that can be opened again.

    Args:
        address: Of the server.
        timeout_s: How long the server may take to let us in, and to answer.
        headers: Sent when connecting.
        theirs: The server in words, for errors.
        hint: What to do about a refusal.
    """

    def __init__(
        self, address: Address, timeout_s: float, *, headers: dict[str, str], theirs: str, hint: str
    ) -> None:
        self._address, self._timeout_s, self._headers = address, timeout_s, headers
        self._theirs, self._hint = theirs, hint
        self._connection: ClientConnection | None = None
        self._hanging_up = contextlib.ExitStack()

    def open(self) -> None:
        """Connect anew.

        Raises:
            LostServerError: Nobody answers.
            AnswerError: Somebody does, but not as a WebSocket.
            MissingCapabilityError: We are not let in.
        """
        self.close()
        try:
            # no pings: a server may be busy for a minute with its first inference
            dialled = connect(
                f"ws://{self._address}", compression=None, max_size=MAX_BYTES, ping_interval=None, proxy=None,
                open_timeout=self._timeout_s, close_timeout=CLOSE_S, additional_headers=self._headers,
            )  # fmt: skip
            self._connection = self._hanging_up.enter_context(dialled)
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise MissingCapabilityError(f"{self._theirs} does not let us in; {self._hint}") from error
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                raise LostServerError(f"{self._theirs} is not available: HTTP status {status}") from error
            if status == HTTPStatus.GONE:
                why = (error.response.body or b"").decode(errors="replace")[:MAX_REASON]
                raise GoneServerError(f"{self._theirs} will not come back: {why}") from error
            raise AnswerError(f"{self._theirs} is no such server: HTTP status {status}") from error
        except InvalidHandshake as error:
            if isinstance(error.__cause__, EOFError):
                raise LostServerError(f"{self._theirs} hung up at once") from error
            raise AnswerError(f"{self._theirs} does not speak WebSocket: {error}") from error
        except (OSError, EOFError, WebSocketException) as error:
            raise LostServerError(f"{self._theirs} cannot be reached: {_reason(error)}") from error

    def send(self, frame: bytes) -> None:
        """Send one binary frame.

        Raises:
            LostServerError: The server went away.
        """
        try:
            self._open_connection().send(frame)
        except (OSError, WebSocketException) as error:
            raise LostServerError(f"{self._theirs} went away: {_reason(error)}") from error

    def receive(self) -> bytes | str:
        """Wait for the next frame.

        Raises:
            LostServerError: The server went away, or says nothing.
        """
        try:
            return self._open_connection().recv(timeout=self._timeout_s)
        except TimeoutError as error:
            self.close()  # what comes later must not be taken for another answer
            raise LateServerError(f"{self._theirs} did not answer within {self._timeout_s:g} s") from error
        except (OSError, WebSocketException) as error:
            raise LostServerError(f"{self._theirs} went away: {_reason(error)}") from error

    def close(self) -> None:
        """Hang up, if connected."""
        self._connection = None
        self._hanging_up.close()

    def _open_connection(self) -> ClientConnection:
        if self._connection is None:
            raise LostServerError(f"{self._theirs} is not connected")
        return self._connection


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
