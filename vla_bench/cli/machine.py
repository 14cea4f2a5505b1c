"""`doctor` and `assets`: whether this machine has what is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vla_bench import catalog
from vla_bench.cli.shared import AsJson, app

assets_app = typer.Typer(
    no_args_is_help=True, help="Fetch and check the data of suites that need a download."
)
app.add_typer(assets_app, name="assets")


@app.command()
def doctor(
    write: Annotated[Path | None, typer.Option(help="Store this machine's fingerprint in a file.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Compare with a stored fingerprint.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check graphics, versions, assets and the fingerprint; exit 1 if one is broken."""
    from vla_bench.doctor.machine import examine

    checks = examine(write=write, compare=compare)
    if as_json:
        print(json.dumps([check.to_json() for check in checks], indent=2))
    else:
        for check in checks:
            print(check)
    if any(check.verdict == "broken" for check in checks):
        raise typer.Exit(1)


@assets_app.command("libero")
def assets_libero(
    source: Annotated[
        Path | None, typer.Option("--from", help="Take the data from a folder instead of the network.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the data that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch LIBERO's data, or take it from a folder, and say what is missing or a stand-in."""
    from vla_bench.sim.assets import libero_status
    from vla_bench.sim.assets_fetch import fetch_libero

    status = libero_status(catalog.libero_root()) if check else fetch_libero(source or "hub")
    if as_json:
        fields = {name: getattr(status, name) for name in ("missing", "standins", "altered", "digest")}
        print(json.dumps({"root": str(status.root), **fields}, indent=2))
    else:
        print(status)
