"""The cells of a bench for a terminal and for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vla_bench.policy.bench.measure import Cell


def to_json(cell: Cell) -> dict[str, Any]:
    """A cell without its single calls."""
    table = dataclasses.asdict(dataclasses.replace(cell, calls={}))
    del table["calls"]
    return table


def rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One row a cell, all with the same columns: medians of phases and quantiles of the total, in ms."""
    phases = list(dict.fromkeys(name for cell in cells for name in cell.latency_ms if name != "total"))
    return [_row(cell, phases) for cell in cells]


def _row(cell: Cell, phases: Sequence[str]) -> dict[str, Any]:
    def of(phase: str, quantile: str = "p50") -> str:
        return _number(cell.latency_ms.get(phase, {}).get(quantile), 2)

    return {
        "precision": cell.precision,
        "batch": cell.batch,
        "load s": _number(cell.load_s, 1),
        "weights GB": _number(cell.weights_gb, 2),
        "quantised": _share(cell.quantised),
        "peak GB": _number(cell.peak_gb, 2),
        **{phase.partition(".")[2] or phase: of(phase) for phase in phases},
        **{f"total {quantile}": of("total", quantile) for quantile in ("p50", "p95", "p99")},
        "Hz": _number(cell.policy_hz, 1),
        "actions/s": _number(cell.actions_per_s, 1),
        "× plain": _number(cell.speedup.get("inference", cell.speedup.get("total")), 2),
        "whole / parts": _number(cell.whole_to_parts, 2),
        "of roofline": _number(cell.of_roofline, 2),
        "": cell.error or "",
    }


def _share(value: float | None) -> str:
    """Where it is little, a precision's name says little about the model."""
    little = " (less than half)" if value and value < 0.5 else ""
    return f"{100 * value:.0f} %{little}" if value else ""


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def remarks(cells: Sequence[Cell]) -> list[str]:
    """What the table does not show: the device's rates, agreement with the plain road, what policies told."""
    machines = dict.fromkeys(cell.machine for cell in cells if cell.machine is not None)
    lines = [
        f"{m.device}: copies at {m.bytes_per_s / 1e9:.1f} GB/s, {m.dtype} products at "
        f"{m.flops_per_s / 1e12:.2f} TFLOP/s, both measured now"
        for m in machines
    ]
    if any(cell.random_weights for cell in cells):
        lines.insert(0, "the weights are random: only speed and memory mean anything")
    for cell in cells:
        told = {
            name: f"{value:.3g}" if isinstance(value, float) else value for name, value in cell.facts.items()
        }
        if cell.same_actions is not None:
            told = {"equal to the plain road's actions": f"{100 * cell.same_actions:.1f} %", **told}
        if told:
            facts = ", ".join(f"{name} {value}" for name, value in told.items())
            lines.append(f"{cell.precision}, batch {cell.batch}: {facts}")
    return lines
