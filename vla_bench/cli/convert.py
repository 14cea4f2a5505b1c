"""`convert`: checkpoints into the form that is read fastest, once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from vla_bench.cli.shared import AsJson, app

convert_app = typer.Typer(no_args_is_help=True, help="Write a checkpoint in another form, once.")
app.add_typer(convert_app, name="convert")


@convert_app.command("octo")
def convert_octo(
    checkpoint: Annotated[Path, typer.Option(help="Folder of an official checkpoint.")],
    out: Annotated[Path, typer.Option(help="Folder that is made; nothing in it is overwritten.")],
    as_json: AsJson = False,
) -> None:
    """Write an official Octo checkpoint as safetensors, with its config, statistics and tokenizer."""
    from vla_bench.policy.octo.convert import convert

    made = convert(checkpoint, out)
    if as_json:
        print(json.dumps({**dataclasses.asdict(made), "folder": str(made.folder)}, indent=2))
        return
    print(f"{made.folder}: {', '.join(made.files)}")
    print(f"{made.tensors} tensors, {made.parameters / 1e6:.1f} M parameters, {made.bytes / 1e6:.1f} MB")
    if "tokenizer.json" not in made.files:
        print("tokenizer.json is not among them: it is T5's, and is taken from where the card says")
