"""`bench policy`: how fast a policy is here, phase by phase."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench.cli.bench import bench_app
from vla_bench.cli.shared import AsJson, print_rows, words
from vla_bench.errors import VlaBenchError

if TYPE_CHECKING:
    from vla_bench.policy.cards import Card


@bench_app.command("policy")
def bench_policy(
    policy: Annotated[str, typer.Option("--policy", help="Card, as name or name:argument.")],
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="Precisions, comma-separated; default the card's first."),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="Episodes served at once, comma-separated.")] = "1",
    rounds: Annotated[int, typer.Option(min=1, help="Timed calls of each contender.")] = 50,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Make the weights up: no checkpoint is needed.")
    ] = False,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Set an option of the card: decode=speculative.")
    ] = None,
    save_trace: Annotated[
        Path | None, typer.Option("--save-trace", help="Store every latency in a Parquet file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Latency by phase, memory and frequency, against the plain loop and the roofline of this machine.

    The contenders take turns, the device is waited for, and the first calls are not counted.
    """
    from vla_bench.policy.bench.measure import bench, with_random_weights
    from vla_bench.policy.bench.report import remarks, rows, to_json
    from vla_bench.policy.cards import read_card

    card = read_card(policy)
    changes = _options(option or [])
    card = card.model_copy(update={"options": {**card.options, **changes}})
    if random_weights:
        card = with_random_weights(card)
    cells = []
    for cell in bench(card, words(precision) or card.precisions[:1], _sizes(batch), rounds=rounds):
        typer.echo(f"{cell.precision}, batch {cell.batch}: {cell.error or 'measured'}", err=True)
        cells.append(cell)
    if save_trace is not None:
        _save(save_trace, cells, card)
    if as_json:
        print(
            json.dumps({"policy": policy, "options": card.options, "cells": [*map(to_json, cells)]}, indent=2)
        )
        return
    print_rows(rows(cells), as_json=False)
    for line in remarks(cells):
        print(line)


def _options(texts: list[str]) -> dict[str, Any]:
    """Values as in TOML; what is none is a word."""
    table = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise VlaBenchError(f"--option {text}: expected NAME=VALUE")
        try:
            table[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[name] = value
    return table


def _sizes(text: str) -> list[int]:
    sizes = words([text])
    if not sizes or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise VlaBenchError(f"--batch {text}: expected numbers of episodes, as in 1,4,16")
    return [int(size) for size in sizes]


def _save(path: Path, cells: list[Any], card: Card) -> None:
    from vla_bench.policy.bench.trace import write_trace
    from vla_bench.run.provenance import now, processor_name, versions

    about = {
        "policy": card.name, "options": card.options, "processor": processor_name(), "versions": versions(),
        "measured_at": now(),
    }  # fmt: skip
    count = write_trace(path, cells, about)
    typer.echo(f"written: {path} ({count} calls)", err=True)
