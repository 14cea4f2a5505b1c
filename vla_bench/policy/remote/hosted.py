"""A policy of ours in another process of ours: what serves several simulators, and what connects to it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vla_bench.policy.cards import Card, reach_elsewhere, read_card
from vla_bench.policy.remote.conventions import LONGEST_WAIT_S, read_address, read_conventions

# Its answers are whole chunks, and its requests stand for themselves: a server that comes back goes on.
PROTOCOL = "openpi"
BACKOFF_S = 0.25

if TYPE_CHECKING:
    from vla_bench.policy.remote.adapter import RemotePolicy

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Host:
    """Where a policy is served.

    Attributes:
        address: HOST:PORT.
        token: What it wants to be shown.
        answer_s: How long an answer may take.
        away_s: How long it may be gone, while it is started again and loads its weights.
    """

    address: str
    token: str
    answer_s: float
    away_s: float


def hosted_pair(policy: str, precision: str) -> Pair | None:
    """Which policy is worth a process of its own where `policy` is run: itself, what it wraps, or none."""
    card = read_card(policy)
    while card.wraps is not None and card.options.get(card.wraps):
        policy = str(card.options[card.wraps])
        card = read_card(policy)
    return None if card.place == "simulator" or card.privileged else (policy, precision)


def use_hosts(hosts: Mapping[Pair, Host]) -> None:
    """From now on these policies are reached in their processes, and not loaded in this one."""
    reach_elsewhere({pair: partial(_connect, read_card(pair[0]), host) for pair, host in hosts.items()})


def _connect(card: Card, host: Host) -> RemotePolicy:
    """Connect to a policy.

    Raises:
        LostServerError: Nobody answers.
    """
    # a run without a server need not wait for these
    from vla_bench.policy.remote.adapter import PROTOCOLS, RemotePolicy

    # the waits grow, the last ones no further
    attempts = math.ceil(math.log2(LONGEST_WAIT_S / BACKOFF_S)) + math.ceil(host.away_s / LONGEST_WAIT_S)
    conventions = read_conventions(read_card(PROTOCOL)).model_copy(
        update={"attempts": attempts, "backoff_s": BACKOFF_S, "timeout_s": host.answer_s}
    )
    module = importlib.import_module(PROTOCOLS[PROTOCOL])
    address = read_address(host.address, card.name)
    return RemotePolicy(card, conventions, module.connect(conventions, address, card.name, host.token))
