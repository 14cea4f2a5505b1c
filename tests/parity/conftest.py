"""Fixtures of the parity tests."""

from __future__ import annotations

import json
import os

import pytest
from support.goldens import goldens


@pytest.fixture(scope="session")
def libero_tolerances() -> dict:
    folder = goldens("libero")
    if folder is None and os.environ.get("CI") != "true":
        pytest.skip("no recordings of libero: set VLA_BENCH_GOLDENS to a folder with them")
    assert folder is not None, "CI must have the recordings"
    return json.loads((folder / "tolerances.json").read_text())
