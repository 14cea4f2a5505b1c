"""Settings of all tests: where LIBERO's data is, when the environment does not say."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from support.goldens import ROOT

# No test asserts on seconds; where a change is judged, the same examples judge every change.
settings.register_profile(
    "vla_bench",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("vla_bench")


def pytest_configure() -> None:
    if "VLA_BENCH_LIBERO" not in os.environ and (ROOT.parent / "shared/libero").is_dir():
        os.environ["VLA_BENCH_LIBERO"] = str(ROOT.parent / "shared/libero")
