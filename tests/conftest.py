"""Settings of all tests: where LIBERO's data is, when the environment does not say."""

from __future__ import annotations

import os

from support.goldens import ROOT


def pytest_configure() -> None:
    if "VLA_BENCH_LIBERO" not in os.environ and (ROOT.parent / "shared/libero").is_dir():
        os.environ["VLA_BENCH_LIBERO"] = str(ROOT.parent / "shared/libero")
