"""A policy of ours in another process of ours: what serves several simulators, and what connects to it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vla_bench.policy.cards import Card, reach_elsewhere, read_card
from vla_bench.policy.remote.conventions import read_address, read_conventions

# Its answers are whole chunks, and its requests stand for themselves: a server that comes back goes on.
PROTOCOL = "openpi"
# How long a server may be gone, while it is started again and loads its weights: about ten minutes.
ATTEMPTS, BACKOFF_S = 65, 0.25
TIMEOUT_S = 600.0

if TYPE_CHECKING:
    from vla_bench.policy.remote.adapter import RemotePolicy

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Host:
    """Where a policy is served.

    Attributes:
        address: HOST:PORT.
        token: What it wants to be shown.
    """

    address: str
    token: str


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

    conventions = read_conventions(read_card(PROTOCOL)).model_copy(
        update={"attempts": ATTEMPTS, "backoff_s": BACKOFF_S, "timeout_s": TIMEOUT_S}
    )
    module = importlib.import_module(PROTOCOLS[PROTOCOL])
    address = read_address(host.address, card.name)
    return RemotePolicy(card, conventions, module.connect(conventions, address, card.name, host.token))
