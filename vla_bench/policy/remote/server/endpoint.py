"""What all servers have: an address, a token, a health page, and a way to stop."""

from __future__ import annotations

import contextlib
import hmac
import importlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vla_bench.errors import MissingCapabilityError, UnknownNameError
from vla_bench.policy.cards import read_card
from vla_bench.policy.remote.conventions import Address, read_conventions
from vla_bench.policy.remote.server.served import Served

HEALTH = ("/health", "/healthz")
MAX_SESSIONS = 64
# protocol → the card whose conventions its other clients keep; its own says which module serves it
CARDS = {"vla-eval": "vla-eval", "openpi": "openpi", "rest": "openvla-rest"}
_MODULES = {
    "vla-eval": "vla_bench.policy.remote.server.vla_eval",
    "openpi": "vla_bench.policy.remote.server.openpi",
    "rest": "vla_bench.policy.remote.server.rest",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that listens.

    Attributes:
        address: Where.
        serve_forever: Answers until `shutdown` is called from another thread.
        shutdown: Stops listening.
    """

    address: Address
    serve_forever: Callable[[], None]
    shutdown: Callable[[], None]


def listen(
    served: Served, protocol: str, *, host: str, port: int, token: str | None = None, card: str | None = None
) -> Endpoint:
    """Listen for clients of a protocol.

    Args:
        served: The policy.
        protocol: One of `CARDS`.
        host: Address of this machine; 127.0.0.1 is reached from this machine alone.
        port: 0 takes a free one.
        token: What clients must show, if anything.
        card: Whose conventions clients keep that know nothing of us; by default the protocol's.

    Raises:
        UnknownNameError: There is no such protocol.
        MissingCapabilityError: The address cannot be listened at, or the policy cannot be served so.
    """
    if protocol not in CARDS:
        raise UnknownNameError("protocol", protocol, CARDS)
    conventions = read_conventions(read_card(card or CARDS[protocol]))
    module = importlib.import_module(_MODULES[protocol])
    try:
        return module.listen(served, conventions, Address(host, port), token)
    except OSError as error:
        raise MissingCapabilityError(f"cannot listen at {Address(host, port)}: {error}") from error


@contextlib.contextmanager
def running(endpoint: Endpoint) -> Iterator[Address]:
    """Serve in a thread while the block runs."""
    thread = threading.Thread(target=endpoint.serve_forever, name="server", daemon=True)
    thread.start()
    try:
        yield endpoint.address
    finally:
        endpoint.shutdown()
        thread.join()


def lets_in(header: str | None, token: str | None) -> bool:
    """Whether an `Authorization` header (`Bearer …`, or openpi's `Api-Key …`) shows the token."""
    if token is None:
        return True
    kind, _, shown = (header or "").partition(" ")
    return kind in ("Bearer", "Api-Key") and hmac.compare_digest(shown.encode(), token.encode())


def health(served: Served) -> str:
    """JSON of how the server is."""
    state = {"policy": served.name, "sessions": served.sessions, "answered": served.answered}
    return json.dumps({"status": "ok", **state}) + "\n"
