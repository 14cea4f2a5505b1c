"""A policy behind a server: connects, begins episodes, asks, and counts where the time goes."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vla_bench.errors import ConventionError, UnknownNameError, VlaBenchError
from vla_bench.policy.arm import STATE_NAMES
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import Card
from vla_bench.policy.remote.conventions import (
    ARM_ACTION,
    LONGEST_WAIT_S,
    Conventions,
    read_address,
    read_conventions,
    to_commands,
)
from vla_bench.policy.remote.exchange import (
    AnswerError,
    Exchange,
    LateServerError,
    LostServerError,
    Offer,
    Reply,
)
from vla_bench.policy.remote.native import EpisodeId
from vla_bench.policy.remote.wire import WireError
from vla_bench.types import ActionChunk, Array, Observation

# protocol → module with `connect(conventions, address, card_name, token) → Exchange`
PROTOCOLS = {
    "vla-eval": "vla_bench.policy.remote.vla_eval",
    "openpi": "vla_bench.policy.remote.openpi",
    "gr00t-n15": "vla_bench.policy.remote.gr00t",
    "gr00t-n16": "vla_bench.policy.remote.gr00t",
    "rest": "vla_bench.policy.remote.rest",
}
# How often a request is sent again to a server that went away while it was about to answer.
RESENT = 2


class RemotePolicy:
    """Acts by asking a server; an episode whose server is lost is an error, and the next one tries again.

    Args:
        card: As it was read.
        conventions: Of the card.
        exchange: Not connected yet.

    Raises:
        LostServerError: Nobody answers.
        ConventionError: The server's conventions are others than the card's.
        AnswerError: The server does not speak the protocol.
    """

    def __init__(self, card: Card, conventions: Conventions, exchange: Exchange) -> None:
        self._name, self._conventions, self._exchange = card.name, conventions, exchange
        self._offer: Offer | None = None
        self._connected = self._given_up = False
        weakref.finalize(self, exchange.close)
        offer = self._connect()
        self.spec = _spec(offer, card.chunk_predicted)
        self.precision_report = None if offer.greeting is None else offer.greeting.report
        self.reset("", 0)

    def reset(self, instruction: str, seed: int) -> None:
        """Begin an episode; the server hears of it with the first request, on a new connection if need be."""
        self._episode = EpisodeId(uuid.uuid4().hex, instruction, seed, request=0)
        self._begun = False

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return the server's (T, 7) actions for the history.

        Raises:
            LostServerError: The server went away, or did not answer in time.
            AnswerError: Its answer cannot be used.
        """
        try:
            return self._ask(observations)
        except WireError as error:
            self._hang_up()
            raise AnswerError(
                f"{self._exchange.theirs} answered policy {self._name!r} with {error}"
            ) from error

    def close(self) -> None:
        """Hang up."""
        self._hang_up()

    def _ask(self, observations: Sequence[Observation]) -> ActionChunk:
        began = time.perf_counter()
        self._begin()
        frame = self._exchange.encode(self._episode, observations)
        sent = time.perf_counter()
        answered = self._transfer(frame)
        received = time.perf_counter()
        reply = self._exchange.decode(answered)
        actions = self._commands(reply)
        self._episode = replace(self._episode, request=self._episode.request + 1)
        ended = time.perf_counter()
        return ActionChunk(
            actions, _phases(sent - began, received - sent, ended - received, reply.timings_ms)
        )

    def _commands(self, reply: Reply) -> Array:
        wanted = (self.spec.chunk_length, self.spec.action_size)
        if reply.actions.shape != wanted:
            raise AnswerError(
                f"{self._exchange.theirs} answered actions of shape {reply.actions.shape}; "
                f"policy {self._name!r} expects {wanted}"
            )
        offer = self._offer
        if offer is not None and offer.greeting is not None:
            return np.asarray(reply.actions, np.float64)
        return to_commands(reply.actions, self._conventions)

    def _begin(self) -> None:
        """Tell the server about the episode once, after what went wrong in the one before."""
        if self._begun:
            if not self._connected and not self._exchange.resends:
                raise LostServerError(f"{self._exchange.theirs} was lost in the course of the episode")
            return
        if self._connected:
            try:
                self._exchange.begin(self._episode.instruction, self._episode.seed)
            except LostServerError:
                self._hang_up()
        if not self._connected:
            self._connect()
            self._exchange.begin(self._episode.instruction, self._episode.seed)
        self._begun = True

    def _transfer(self, frame: bytes) -> bytes | str:
        for left in reversed(range(1 + RESENT)):
            if not self._connected:
                self._connect()
            try:
                return self._exchange.transfer(frame)
            except LostServerError as error:
                self._hang_up()
                if isinstance(error, LateServerError) or not self._exchange.resends:
                    raise
                if not left:
                    times = f"each of the {1 + RESENT} times that it was asked"
                    raise LostServerError(f"policy {self._name!r}: {error}, {times}") from error
        raise AssertionError("the last time returns or raises")

    def _connect(self) -> Offer:
        """Try, wait, and try again; once given up on, a server gets one try an episode until it is back."""
        attempts = 1 if self._given_up else self._conventions.attempts
        for attempt in range(attempts - 1):
            with contextlib.suppress(LostServerError):
                return self._open()
            time.sleep(min(LONGEST_WAIT_S, self._conventions.backoff_s * 2.0 ** min(attempt, 30)))
        try:
            return self._open()
        except LostServerError as error:
            self._given_up = True
            raise LostServerError(f"policy {self._name!r}: {error} (attempt {attempts})") from error

    def _open(self) -> Offer:
        try:
            offer = self._exchange.open()
            if self._offer is not None and offer != self._offer:
                raise ConventionError(f"{self._exchange.theirs} is another one than before: {offer}")
        except VlaBenchError:
            self._exchange.close()
            raise
        self._offer, self._connected, self._given_up = offer, True, False
        return offer

    def _hang_up(self) -> None:
        self._connected = False
        self._exchange.close()


def _spec(offer: Offer, chunk_length: int) -> PolicySpec:
    """What the server wants to see: as it says, or as the card says."""
    if offer.greeting is not None:
        return offer.greeting.spec
    conventions = offer.conventions
    return PolicySpec(
        cameras=tuple(dict.fromkeys(conventions.cameras.values())),
        image_px=conventions.image_px,
        proprio=STATE_NAMES if conventions.state else (),
        action_size=ARM_ACTION,
        chunk_length=chunk_length,
        control_hz=conventions.control_hz,
    )


def _phases(
    encode_s: float, exchange_s: float, decode_s: float, server: Mapping[str, float]
) -> dict[str, float]:
    """Milliseconds of the phases; their sum is the whole call; what the server did not spend is transport."""
    exchange_ms = 1e3 * exchange_s
    before, model, after = (server.get(phase, 0.0) for phase in ("preprocess", "inference", "postprocess"))
    if before + model + after > exchange_ms:  # it cannot have been
        before = model = after = 0.0
    return {
        "preprocess": 1e3 * encode_s + before,
        "inference": exchange_ms - before - after,
        "inference.transport": exchange_ms - before - model - after,
        "postprocess": 1e3 * decode_s + after,
    }


def build(card: Card, precision: str) -> RemotePolicy:
    """Connect to the server that the user or the card names.

    Raises:
        ConventionError: There is no address, or the server's conventions are others than the card's.
        UnknownNameError: The card names a protocol that does not exist.
        LostServerError: Nobody answers.
        AnswerError: Somebody does, but does not speak the protocol.
    """
    if card.alias:
        raise ConventionError(
            f"policy {card.name!r} needs a card and an address: {card.name}:vla-eval@127.0.0.1:8000"
        )
    conventions = read_conventions(card)
    if conventions.protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", conventions.protocol, PROTOCOLS, where=str(card.source))
    address = read_address(conventions.address, card.name)
    token = os.environ.get(conventions.token_variable)
    module = importlib.import_module(PROTOCOLS[conventions.protocol])
    return RemotePolicy(card, conventions, module.connect(conventions, address, card.name, token))
