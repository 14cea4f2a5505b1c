"""How simulated time relates to thinking: one module a family of modes, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vla_bench.errors import UnknownNameError, VlaBenchError
from vla_bench.run.pacing.blocking import blocking
from vla_bench.run.pacing.clock import whole_ns
from vla_bench.run.pacing.options import WORDS, Pacing
from vla_bench.run.pacing.realtime import chunk_async, chunk_sync, realtime

if TYPE_CHECKING:
    from vla_bench.run.rollout import Rollout

__all__ = ["PACINGS", "Mode", "Pacing", "parse_pacing", "whole_ns"]


@dataclass(frozen=True, slots=True)
class Mode:
    """A family of pacings: what plays an episode, and the fields of `Pacing` that it goes by."""

    play: Callable[[Rollout, Pacing], None]
    options: tuple[str, ...] = ()


PACINGS: Mapping[str, Mode] = {
    "blocking": Mode(blocking),
    "realtime": Mode(realtime, ("first_action",)),
    "chunk_sync": Mode(chunk_sync, ("first_action",)),
    "chunk_async": Mode(chunk_async, ("align", "merge", "first_action")),
}


def parse_pacing(text: str) -> Pacing:
    """Read a pacing's name.

    Raises:
        UnknownNameError: There is no such mode or option.
        VlaBenchError: The options contradict each other, or the same pacing has another name.
    """
    mode, marked, rest = text.partition("@")
    if mode not in PACINGS:
        raise UnknownNameError("pacing", mode, PACINGS)
    allowed = [word for word, field in WORDS.items() if field in PACINGS[mode].options]
    pacing = Pacing(mode)
    for word in rest.split("+") if marked else []:
        if word not in allowed:
            raise UnknownNameError(f"option of pacing {mode!r}:", word, allowed)
        pacing = replace(pacing, **{WORDS[word]: word})
    if pacing.merge != "replace" and pacing.align != "index":
        raise VlaBenchError(f"pacing {text!r}: {pacing.merge} needs chunks that are aligned by index")
    if str(pacing) != text:
        raise VlaBenchError(
            f"pacing {text!r} is called {str(pacing)!r}; one name each keeps records together"
        )
    return pacing
