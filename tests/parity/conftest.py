"""Fixtures of the parity tests."""

from __future__ import annotations

import json

import pytest
from support.goldens import goldens


@pytest.fixture(scope="session")
def libero_tolerances() -> dict:
    folder = goldens("libero")
    assert folder is not None, "CI must have the recordings"
    return json.loads((folder / "tolerances.json").read_text())
