"""Where the delays of the virtual clock come from: `kind` or `kind:argument`, without commas.

| source | delays |
|---|---|
| `zero` | none |
| `constant:333ms` | as said |
| `trace:NAME`, `trace:FILE.parquet` | of a trace, with `#PRECISION@DRAW*SCALE` |
| `model:NAME` | of a published distribution, with `*SCALE` |
| `model:WORK@DEVICE` | of a roofline: that policy's work on that device, with `*SCALE` |
| `measured` | of this machine: recorded once into the results folder, then replayed |
| `live` | of this machine as it runs; not reproducible |

PRECISION chooses among those of a bench; DRAW is `iid`, `sequential` or `block`; SCALE is a factor: 1.5, say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from vla_bench.errors import UnknownNameError, VlaBenchError
from vla_bench.run.latency.draws import (
    DRAWS,
    MOST_NS,
    Constant,
    Delays,
    LatencySource,
    Live,
    Trace,
    no_delay,
    phase_ticks,
)
from vla_bench.run.latency.rooflines import roofline
from vla_bench.run.latency.traces import read_model, read_trace

__all__ = ["LATENCIES", "Delays", "LatencySource", "latency_source", "no_delay", "phase_ticks"]

NUMBER = r"\d+(?:\.\d+)?"
TRACE = re.compile(
    rf"(?P<name>[^@*#]+)(?:#(?P<precision>[^@*#]+))?(?:@(?P<draw>\w+))?(?:\*(?P<scale>{NUMBER}))?"
)
MODEL = re.compile(rf"(?P<name>[^@*#]+)(?:@(?P<device>[^@*#]+))?(?:\*(?P<scale>{NUMBER}))?")


def latency_source(text: str) -> LatencySource | None:
    """Read a source's name and the file that it names; None for `measured`, which is known when it runs.

    Raises:
        UnknownNameError: There is no such kind, model, trace or draw.
        VlaBenchError: The argument says nothing, or its file is wrong.
    """
    kind, colon, argument = text.partition(":")
    if kind not in LATENCIES:
        raise UnknownNameError("latency source", kind, LATENCIES)
    return LATENCIES[kind](argument if colon else None)


def _constant(argument: str | None) -> Constant:
    said = re.fullmatch(rf"({NUMBER})ms", argument or "")
    delay_ns = Decimal(said[1]) * 1_000_000 if said else Decimal(-1)
    if delay_ns != int(delay_ns) or not 0 <= delay_ns <= MOST_NS:
        raise VlaBenchError(
            f"latency constant:{argument}: expected milliseconds in whole nanoseconds, up to an hour, "
            f"for example constant:333ms"
        )
    return Constant(int(delay_ns))


def _trace(argument: str | None) -> Trace:
    said = TRACE.fullmatch(argument or "")
    if said is None:
        raise VlaBenchError(
            f"latency trace:{argument}: expected trace:NAME#PRECISION@DRAW*SCALE, all but NAME optional"
        )
    draw = said["draw"] or "iid"
    if draw not in DRAWS:
        raise UnknownNameError("way to draw from a trace:", draw, DRAWS)
    samples_ns, digest = read_trace(said["name"], said["precision"])
    return Trace(samples_ns, draw, float(said["scale"] or 1), digest)


def _model(argument: str | None) -> LatencySource:
    said = MODEL.fullmatch(argument or "")
    if said is None:
        raise VlaBenchError(
            f"latency model:{argument}: expected model:NAME@DEVICE*SCALE, all but NAME optional"
        )
    scale = float(said["scale"] or 1)
    if said["device"] is not None:
        return roofline(said["name"], said["device"], scale)
    return read_model(said["name"]).lognormal(scale)


def _alone(kind: str, source: LatencySource | None) -> Callable[[str | None], LatencySource | None]:
    def make(argument: str | None) -> LatencySource | None:
        if argument is not None:
            raise VlaBenchError(f"latency {kind}:{argument}: {kind} stands alone")
        return source

    return make


LATENCIES: Mapping[str, Callable[[str | None], LatencySource | None]] = {
    "zero": _alone("zero", Constant(0)),
    "constant": _constant,
    "trace": _trace,
    "model": _model,
    "measured": _alone("measured", None),
    "live": _alone("live", Live()),
}
