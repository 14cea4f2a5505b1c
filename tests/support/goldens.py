"""Where recordings of the original systems are, and which there are.

Tests run on whatever folder `VLA_BENCH_GOLDENS` names (default: `../shared/goldens` beside the repository,
then the small set in `tests/parity/goldens`). Without one they are skipped with a reason, except where CI
is true.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vla_bench import catalog
from vla_bench.errors import MissingDataError

ROOT = Path(__file__).parents[2]


def goldens(family: str) -> Path | None:
    """The folder of one family's recordings, or None."""
    named = os.environ.get("VLA_BENCH_GOLDENS")
    candidates = [Path(named)] if named else [ROOT.parent / "shared/goldens", ROOT / "tests/parity/goldens"]
    return next((c / family for c in candidates if (c / family).is_dir()), None)


def recordings(family: str, kind: str, suffix: str = ".npz") -> list:
    """One pytest parameter a recording; a single skipped (in CI: failing) one where they cannot be used."""
    folder = goldens(family)
    found = sorted((folder / kind).glob(f"*{suffix}")) if folder else []
    reason = "" if found else f"no recordings of {family}/{kind}: set VLA_BENCH_GOLDENS to a folder with them"
    if family == "libero" and found:
        reason = libero_is_missing()
    if reason and os.environ.get("CI") != "true":
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(p, id=p.name.removesuffix(suffix) if p else "none") for p in found or [None]]


def libero_is_missing() -> str:
    """Why LIBERO's data cannot be used, or nothing."""
    try:
        catalog.libero_root()
    except MissingDataError as error:
        return str(error)
    return ""
