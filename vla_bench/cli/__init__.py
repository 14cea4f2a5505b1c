"""The command line.

Commands parse flags, call one function and print; heavy packages are imported when they are used. A new
command is a function in one of the modules imported here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vla_bench import __version__, catalog
from vla_bench.cli import (
    acting,
    bench,
    bench_finetuning,
    bench_policy,
    bench_throughput,
    certify,
    convert,
    dagger,
    demos,
    machine,
    offline,
    reports,
    serving,
    store,
    studies,
    things,
    training,
)
from vla_bench.cli.shared import app
from vla_bench.errors import VlaBenchError
from vla_bench.sim.opengl import asked_backend

__all__ = [
    "acting",
    "app",
    "bench",
    "bench_finetuning",
    "bench_policy",
    "bench_throughput",
    "certify",
    "convert",
    "dagger",
    "demos",
    "machine",
    "main",
    "offline",
    "reports",
    "serving",
    "store",
    "studies",
    "things",
    "training",
]

DataDirs = Annotated[list[Path] | None, typer.Option(help="Further folders with data of this kind.")]


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    tasks_dir: DataDirs = None,
    policies_dir: DataDirs = None,
) -> None:
    """Options of all commands."""
    for variable, folders in (
        (catalog.TASKS_DIR_VARIABLE, tasks_dir),
        (catalog.POLICIES_DIR_VARIABLE, policies_dir),
    ):
        if folders:
            # an environment variable, because worker processes must find the same folders
            os.environ[variable] = os.pathsep.join(str(folder.resolve()) for folder in folders)
    if version:
        print(__version__)
        raise typer.Exit
    asked_backend()  # MuJoCo reads MUJOCO_GL on import and words a mistake in it badly


def main() -> None:
    """Run the command line; errors made on purpose are printed as one sentence."""
    try:
        app()
    except VlaBenchError as error:
        print(f"vla-bench: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # the reader went away (`| head`); nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
