"""Policy cards: one TOML file a checkpoint, naming its adapter and its conventions.

`name:argument` on the command line sets the option that the card calls its `argument`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vla_bench import catalog
from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import ConventionError, DataError, MissingCapabilityError, UnknownNameError
from vla_bench.policy.base import Policy


class Checkpoint(FileModel):
    """Where weights are: a folder, or a hub repository at a revision, or a page to fetch them from by hand.

    A revision that is a branch can move: `note` says so where no commit is known.
    """

    folder: str | None = None
    repo: str | None = None
    revision: str | None = None
    url: str | None = None
    note: str = ""

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, so that it always names the same files."""
        return re.fullmatch(r"[0-9a-f]{40}", self.revision or "") is not None


class ReferenceNumber(FileModel):
    """A published result of this checkpoint.

    Attributes:
        suite: Where it was measured; a real robot's tasks are named by the suite that mirrors them.
        value, stderr: In the unit of `metric`; the standard error where it was published.
        trials: Number of episodes.
        source: Who published it, and where.
        note: What must be known to compare with it.
    """

    suite: str
    metric: str = "success_percent"
    value: float
    stderr: float | None = None
    trials: int | None = Field(default=None, gt=0)
    source: str
    note: str = ""


class Card(FileModel):
    """A policy as its file declares it.

    Attributes:
        adapter: `module:factory`; the factory takes (card, precision) and returns a Policy.
        privileged: It sees the simulation's state, not only what sensors show.
        blind: It never looks at a picture.
        place: Where it runs when there are several simulators: in a process of its own that serves all of
            them (`server`), or in each simulator's process, because it is light or is one elsewhere already.
        wraps: Option that names the policy that it wraps, if it wraps one.
        argument: Option that the text after `name:` sets.
        alias: The text after `name:` is CARD@ARGUMENT, and that card with that argument is meant.
        options: What the adapter reads.
    """

    name: str
    source: Path
    title: str
    family: str
    adapter: str = Field(pattern=r"^[\w.]+:\w+$")
    licence: str
    precisions: tuple[str, ...] = Field(default=("fp32",), min_length=1)
    privileged: bool = False
    blind: bool = False
    place: Literal["server", "simulator"] = "server"
    wraps: str | None = None
    deterministic: bool = True
    action_convention: str = "delta_pose"
    chunk_predicted: int = Field(default=1, gt=0)
    chunk_executed: int = Field(default=1, gt=0)
    checkpoint: Checkpoint = Checkpoint()
    argument: str | None = None
    alias: bool = False
    options: dict[str, Any] = Field(default_factory=dict)
    reference: tuple[ReferenceNumber, ...] = ()


def read_card(policy: str) -> Card:
    """Read the card of a policy named `name` or `name:argument`.

    Raises:
        UnknownNameError: No such card; names the nearest.
        DataError: The file is broken or has an unknown key.
        ConventionError: An argument is given that the card does not take.
    """
    name, colon, argument = policy.partition(":")
    files = catalog.policy_files()
    if name not in files:
        raise UnknownNameError("policy", name, files)
    path = files[name]
    card = parse(Card, read_toml(path), path, given={"name": name, "source": path})
    if not colon:
        return card
    if card.alias:
        other, at, rest = argument.partition("@")
        return read_card(f"{other}:{rest}" if at else other)
    if card.argument is None:
        raise ConventionError(f"policy {name!r} takes no argument, got {argument!r}")
    return card.model_copy(update={"options": {**card.options, card.argument: argument}})


def load_policy(policy: str, precision: str | None = None) -> Policy:
    """Build a policy from its card, at one of its precisions; by default the first.

    Raises:
        MissingCapabilityError: The card has no such precision, or the adapter's packages are not installed.
    """
    card = read_card(policy)
    precision = precision or card.precisions[0]
    if (policy, precision) in _elsewhere:
        return _elsewhere[policy, precision]()
    return build_policy(card, precision)


_elsewhere: dict[tuple[str, str], Callable[[], Policy]] = {}


def reach_elsewhere(policies: Mapping[tuple[str, str], Callable[[], Policy]]) -> None:
    """From now on these are not built in this process, also where others wrap them.

    Args:
        policies: Policy and precision → what connects to it.
    """
    _elsewhere.clear()
    _elsewhere.update(policies)


def build_policy(card: Card, precision: str) -> Policy:
    """Build the policy of a card.

    Raises:
        MissingCapabilityError: The card has no such precision, or the adapter's packages are not installed.
    """
    if precision not in card.precisions:
        raise MissingCapabilityError(
            f"policy {card.name!r} runs at {', '.join(card.precisions)}, not at {precision!r}"
        )
    return factory(card)(card, precision)


def factory(card: Card) -> Callable[[Card, str], Policy]:
    """Import what builds the policies of a card.

    Raises:
        DataError: There is no such module.
        MissingCapabilityError: A package that it needs is not installed.
        UnknownNameError: The module has no such function.
    """
    module_name, _, name = card.adapter.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise DataError(card.source, f"adapter module {module_name!r} does not exist") from error
        raise MissingCapabilityError(
            f"policy {card.name!r} needs the package {error.name!r}: pip install 'vla-bench[{card.family}]'"
        ) from error
    if not hasattr(module, name):
        known = [n for n in vars(module) if not n.startswith("_")]
        raise UnknownNameError("adapter", name, known, where=str(card.source))
    return getattr(module, name)
