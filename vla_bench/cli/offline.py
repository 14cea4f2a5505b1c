"""`offline`: how well a policy answers stored observations, and what its bins do to stored actions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench.cli.shared import AsJson, app, print_rows, words
from vla_bench.errors import VlaBenchError

if TYPE_CHECKING:
    from vla_bench.learn.demonstrations import Demonstrations
    from vla_bench.learn.offline import ArmReport, Question


@app.command()
def offline(
    demos: Annotated[
        Path, typer.Option("--demos", help="A LeRobot folder (v3), or LIBERO's HDF5 file or folder of them.")
    ],
    policy: Annotated[str | None, typer.Option("--policy", help="The policy.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option("--precision", help="Comma-separated; the first is the reference.")
    ] = None,
    bins: Annotated[
        bool, typer.Option("--bins", help="Report what 256 uniform bins do to the actions; needs no policy.")
    ] = False,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Only the data set's first so many episodes.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Ask at every so many-th observation.")] = 1,
    forced: Annotated[
        bool, typer.Option("--forced", help="Teacher forcing: tokens follow those of the demonstration.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the numbers into this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a policy's answers to stored observations with what was done; nothing is simulated.

    Tokens are chosen greedily, each after the policy's own (free running), or after the demonstrated ones
    with --forced. Distances are in metres and radians.
    """
    from vla_bench.learn.demonstrations import open_demonstrations

    if (policy is None) != bins:
        raise VlaBenchError("name a policy (--policy …), or ask for --bins, which needs none")
    data = open_demonstrations(demos)
    if policy is None:
        content: dict[str, Any] = {"bins": _bins(data)}
        tables = {"": content["bins"]}
    else:
        question, reports = _ask(data, policy, words(precision), episodes, every, forced)
        content = {"question": asdict(question), "arms": [asdict(report) for report in reports]}
        tables = {_title(question, reports): _rows(question, reports), **_distances(question, reports)}
    told = _described(data)
    text = json.dumps({"demonstrations": told, **content}, indent=2)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
        return
    print(f"{demos}: {told['episodes']} episodes at {told['fps']:g} Hz")
    for title, rows in tables.items():
        if title:
            print(title)
        print_rows(rows, as_json=False)


def _ask(
    data: Demonstrations, policy: str, precisions: list[str], episodes: int | None, every: int, forced: bool
) -> tuple[Question, list[ArmReport]]:
    from rich.console import Console
    from rich.progress import Progress

    from vla_bench.learn.offline import Question, measure, observations_in
    from vla_bench.policy.cards import read_card

    named = tuple(precisions) or read_card(policy).precisions[:1]
    question = Question(policy, named, episodes, every, forced)
    with Progress(console=Console(stderr=True, highlight=False), transient=True) as progress:
        total = observations_in(question, data)
        bars = {name: progress.add_task(name, total=total) for name in named}
        return question, measure(question, data, lambda name: progress.advance(bars[name]))


def _described(data: Demonstrations) -> dict[str, Any]:
    held = data.conventions
    return {
        "source": str(data.source), "episodes": len(data), "fps": held.fps, "cameras": held.cameras,
        "action_convention": held.action_convention,
    }  # fmt: skip


def _title(question: Question, reports: list[ArmReport]) -> str:
    reasons = sorted({report.absent for report in reports if report.absent})
    if reasons:
        return f"{question.policy}: no token accuracy, agreement or divergence: {'; '.join(reasons)}"
    how = "each token follows the demonstrated ones" if question.forced else "free running, greedy"
    return f"{question.policy}: {how}; reference {question.precisions[0]}"


def _rows(question: Question, reports: list[ArmReport]) -> list[dict[str, Any]]:
    rows = []
    for report in reports:
        row: dict[str, Any] = {"precision": report.precision, "observations": report.observations}
        tokens = report.tokens
        if tokens:
            row["token accuracy"] = _share(tokens["accuracy"])
            row["exact match"] = _share(tokens["exact_match"])
        if any("kl_nats" in other.tokens for other in reports):
            row[f"as {question.precisions[0]}"] = _share(tokens.get("agreement"))
            row["actions that differ"] = _share(tokens.get("diverged"))
            row["first at token"] = " ".join(map(str, tokens.get("first_divergence", ())))
            row["KL (nats)"] = f"{tokens['kl_nats']:.2e}" if "kl_nats" in tokens else ""
        rows.append(row)
    return rows


def _distances(question: Question, reports: list[ArmReport]) -> dict[str, list[dict[str, Any]]]:
    tables = {
        "mean distance to the demonstration": {r.precision: r.to_demonstration for r in reports},
        f"mean distance to {question.precisions[0]}": {
            r.precision: r.to_reference for r in reports if r.to_reference is not None
        },
    }
    return {
        title: [
            {"precision": name, **{number: f"{value:.3g}" for number, value in distances.items()}}
            for name, distances in table.items()
        ]
        for title, table in tables.items()
        if table
    }


def _bins(data: Demonstrations) -> list[dict[str, Any]]:
    from vla_bench.learn.bins import report_bins

    rows = []
    for report in report_bins(data):
        row = asdict(report)
        row |= {key: float(f"{row[key]:.4g}") for key in ("low", "high", "step", "error")}
        row["saturated share"] = round(report.saturated / report.count, 4)
        rows.append(row)
    return rows


def _share(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    interval = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['value']:.3f}{interval} ({found['k']}/{found['n']})"
