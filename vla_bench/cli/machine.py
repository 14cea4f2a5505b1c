"""`doctor` and `assets`: whether this machine has what is needed, and whether a card says the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vla_bench import catalog
from vla_bench.cli.shared import AsJson, app
from vla_bench.errors import ConventionError

if TYPE_CHECKING:
    from vla_bench.doctor.checks import Check
    from vla_bench.doctor.conventions import Diagnosis

assets_app = typer.Typer(
    no_args_is_help=True, help="Fetch and check the data of suites that need a download."
)
app.add_typer(assets_app, name="assets")


@app.command()
def doctor(
    write: Annotated[Path | None, typer.Option(help="Store this machine's fingerprint in a file.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Compare with a stored fingerprint.")] = None,
    policy: Annotated[str | None, typer.Option(help="Examine this policy's conventions instead.")] = None,
    task: Annotated[str | None, typer.Option(help="The task that it is examined on.")] = None,
    precision: Annotated[str, typer.Option(help="A precision of its card.")] = "fp32",
    demos: Annotated[
        Path | None, typer.Option(help="Demonstrations of the task; default what the expert does.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=2, help="Demonstrations that are used.")] = 12,
    pairs: Annotated[int, typer.Option(min=2, help="Instants of each.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Check this machine, or with --policy and --task a policy's conventions; exit 1 if one is broken.

    The machine: graphics, versions, assets, fingerprint. The policy: it is shown what was seen in
    demonstrations, as its card says and with one convention changed at a time (pictures, crop, gripper,
    scale, normalisation); the verdict names the change under which it does what was done,
    or says why none can be named.
    """
    from vla_bench.doctor.machine import examine

    if (policy is None) != (task is None):
        raise ConventionError("conventions are examined with both: --policy and --task")
    if policy is not None and task is not None:
        diagnosis = _examined(policy, task, precision, demos, episodes, pairs)
        checks: Sequence[Check] = diagnosis.checks
        shown = diagnosis.to_json()
    else:
        checks = examine(write=write, compare=compare)
        shown = [check.to_json() for check in checks]
    print(json.dumps(shown, indent=2) if as_json else "\n".join(map(str, checks)))
    if any(check.verdict == "broken" for check in checks):
        raise typer.Exit(1)


def _examined(
    policy: str, task: str, precision: str, demos: Path | None, episodes: int, pairs: int
) -> Diagnosis:
    """Examine a policy's conventions with a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    from vla_bench.doctor.policies import examine_policy
    from vla_bench.policy.cards import load_policy, read_card

    found, loaded = catalog.task(task), load_policy(policy, precision)
    with Progress(console=Console(stderr=True)) as progress:

        def begin(questions: int) -> Callable[[], None]:
            bar = progress.add_task("answers", total=questions)
            return lambda: progress.advance(bar)

        return examine_policy(
            loaded, read_card(policy), found, demos=demos, episodes=episodes, pairs=pairs, progress=begin
        )


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
