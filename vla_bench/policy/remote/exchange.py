"""What a client of any protocol can do, and what can go wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.policy.remote.conventions import Conventions
from vla_bench.policy.remote.native import EpisodeId, Greeting
from vla_bench.policy.remote.wire import WireError
from vla_bench.types import Observation


class LostServerError(MissingCapabilityError):
    """A server that cannot be reached, or went away: trying again may help."""


class LateServerError(LostServerError):
    """A server that did not answer in time; asking again would only make it later."""


class GoneServerError(MissingCapabilityError):
    """A server that said that it will not come back, and why: trying again is in vain."""


class AnswerError(VlaBenchError):
    """An answer that cannot be used: it breaks the protocol, or the server says that it failed."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server said when it was connected to.

    Attributes:
        conventions: The card's, as the server asks for them.
        greeting: Of a server of ours, which needs no conventions.
        name: What the server calls itself, if it does.
    """

    conventions: Conventions
    greeting: Greeting | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        actions: (T, A) as the protocol means them; of a server of ours, commands.
        timings_ms: What the server measured, if it says so.
    """

    actions: NDArray[Any]
    timings_ms: Mapping[str, float] = field(default_factory=dict)


class Exchange(Protocol):
    """A client of one protocol: requests and answers as bytes, one after the other.

    Attributes:
        theirs: The server in words, for errors.
        resends: Whether a request may be sent again on a new connection, because the server keeps nothing of
            an episode.
    """

    theirs: str
    resends: bool

    def open(self) -> Offer:
        """Connect, and hear what the server says of itself.

        Raises:
            LostServerError: Nobody answers.
            AnswerError: Somebody does, but does not speak the protocol.
            ConventionError: It declares other conventions than the card.
        """
        ...

    def begin(self, instruction: str, seed: int) -> None:
        """Tell the server that an episode begins.

        Raises:
            LostServerError: It went away.
        """
        ...

    def encode(self, episode: EpisodeId, history: Sequence[Observation]) -> bytes:
        """Write a request."""
        ...

    def transfer(self, frame: bytes) -> bytes | str:
        """Send a request and wait for the answer.

        Raises:
            LostServerError: The server went away, or did not answer in time.
        """
        ...

    def decode(self, frame: bytes | str) -> Reply:
        """Read an answer.

        Raises:
            WireError: It breaks the protocol.
            AnswerError: The server says that it failed.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


def actions_of(found: Any) -> NDArray[Any]:
    """(A,) or (T, A) numbers → (T, A).

    Raises:
        WireError: They are something else.
    """
    try:
        actions = np.asarray(found)
    except ValueError as error:  # lists of different lengths
        raise WireError(f"actions that are no array: {error}") from error
    if actions.dtype.kind not in "iuf" or actions.ndim not in (1, 2) or not actions.size:
        raise WireError(f"actions are {actions.dtype} of shape {actions.shape}, expected numbers (T, A)")
    return np.atleast_2d(actions)
