"""Checks of this machine: does it draw, does it have the data, does its physics give the known result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vla_bench import catalog
from vla_bench.doctor.checks import Check
from vla_bench.errors import MissingDataError, VlaBenchError


def examine(*, write: Path | None = None, compare: Path | None = None) -> list[Check]:
    """Run all checks; none of them stops the others.

    Args:
        write: Where to store this machine's fingerprint.
        compare: A stored fingerprint to compare with, instead of the released one.
    """
    checks: list[Check] = []
    steps: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("versions", _versions),
        ("graphics", _graphics),
        ("robot", _robot),
        ("libero", _libero),
        ("fingerprint", lambda: _fingerprint(write, compare)),
        ("settling", _bowl_on_ramekin),
    ]
    for name, step in steps:
        try:
            checks += step()
        except VlaBenchError as error:
            checks.append(Check(name, "broken", str(error)))
    return checks


def _versions() -> Iterator[Check]:
    from vla_bench.run.provenance import versions

    yield Check("versions", "good", ", ".join(f"{name} {v}" for name, v in versions().items()))


def _graphics() -> Iterator[Check]:
    from vla_bench.sim import graphics

    yield Check("graphics", "good", str(graphics.describe()))


def _robot() -> Iterator[Check]:
    from vla_bench.sim.assets import robosuite_assets

    robosuite_assets()
    yield Check("robot", "good", "robosuite's model files are installed")


def _libero() -> Iterator[Check]:
    from vla_bench.sim.assets import libero_status

    try:
        status = libero_status(catalog.libero_root())
    except MissingDataError as error:
        yield Check("libero", "note", str(error))
        return
    yield Check(
        "libero", "broken" if status.missing else "good" if status.is_original else "note", str(status)
    )


def _fingerprint(write: Path | None, compare: Path | None) -> Iterator[Check]:
    from vla_bench.sim import fingerprint

    ours = fingerprint.take(views=2)
    if write is not None:
        fingerprint.write(ours, write)
        yield Check("fingerprint", "good", f"{ours}, written to {write}")
    found = fingerprint.differences(ours, fingerprint.read(compare or fingerprint.REFERENCE))
    against = compare or "the released one"
    if not found:
        yield Check("fingerprint", "good", f"{ours}, the same as {against}")
    for text in found:
        yield Check("fingerprint", "note", f"{ours} against {against}: {text}")


def _bowl_on_ramekin() -> Iterator[Check]:
    """LIBERO-spatial task 5: the bowl slides off the ramekin on engines from 3.4 on."""
    from vla_bench.sim import settling

    try:
        task = catalog.task("libero_spatial/5")
    except MissingDataError:
        return
    settled, episodes = settling.bowl_stays(task, episodes=5)
    good = settled == episodes
    text = f"the bowl stays on the ramekin in {settled} of {episodes} episodes of {task.id}"
    yield Check(
        "settling", "good" if good else "broken", text if good else f"{text}: another engine's contacts"
    )
