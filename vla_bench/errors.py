"""Errors that say what was wanted, what came and what exists.

`Failure` causes and `error` statuses of episodes live in records; the exceptions here stop a command.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class VlaBenchError(Exception):
    """Base of everything that vla_bench raises on purpose; the command line prints it without a traceback.

    It can be sent from one process to another, whatever it was made from.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (type(self), self.args, self.__dict__)


def _as_it_was(kind: type[VlaBenchError], args: tuple[Any, ...], state: dict[str, Any]) -> VlaBenchError:
    """An error that says what it said, without making its sentence again."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UnknownNameError(VlaBenchError):
    """A name that does not exist, with the nearest ones that do."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str = "") -> None:
        self.kind, self.name = kind, name
        known = sorted(set(known))
        super().__init__(f"{where + ': ' if where else ''}unknown {kind} {name!r}{suggest(name, known)}")


class DataError(VlaBenchError):
    """A file that cannot be used: broken, truncated, or saying something impossible."""

    def __init__(self, path: str | Path, problem: str, *, line: int | None = None) -> None:
        self.path, self.line = Path(path), line
        super().__init__(f"{path}{f':{line}' if line is not None else ''}: {problem}")


class MissingDataError(VlaBenchError):
    """A file or folder that is not there, with the way to get it."""


class MissingCapabilityError(VlaBenchError):
    """Something this machine or installation cannot do, with what to install."""


class ConventionError(VlaBenchError):
    """Two sides that do not agree: shapes, cameras, action conventions."""


class DivergedError(VlaBenchError):
    """The physics left the numbers: a MuJoCo warning or a state that is not finite."""


class PlacementError(VlaBenchError):
    """Objects could not be placed within the allowed number of attempts."""


def suggest(name: str, known: Iterable[str], *, limit: int = 8) -> str:
    """Return a phrase that starts with "; " and names the nearest of `known`, or all of them if few."""
    known = list(known)
    if not known:
        return "; none exist"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    if len(known) <= limit:
        return f"; known: {', '.join(known)}"
    return f"; {len(known)} are known, for example {', '.join(known[:limit])}"
