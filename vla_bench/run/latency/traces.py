"""Latencies in files: Parquet traces, as `bench policy --save-trace` writes them, and models as TOML."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vla_bench import catalog
from vla_bench.config import FileModel, parse, read_toml
from vla_bench.errors import DataError, MissingDataError, UnknownNameError, VlaBenchError, suggest
from vla_bench.run.latency.draws import Lognormal, nanoseconds

COLUMNS = ("policy", "precision", "batch", "contender", "call", "total_ms")


class LatencyModel(FileModel):
    """A latency that somebody published, as a shifted log-normal distribution.

    Attributes:
        name: The file's stem.
        title: What was measured, on what.
        source: Who published it, and where.
        certainty: `primary`: read where it was published; `secondary`: copied; `assumed`: said nowhere.
        shift_ms, median_ms: A delay is shift + median · exp(sigma · z), z standard normal.
        sigma: 0 where no spread was published.
    """

    name: str
    title: str
    source: str
    certainty: Literal["primary", "secondary", "assumed"]
    shift_ms: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    median_ms: float = Field(gt=0, allow_inf_nan=False)
    sigma: float = Field(default=0.0, ge=0, le=3)

    def lognormal(self, scale: float) -> Lognormal:
        """The distribution, for a device that takes `scale` times as long."""
        shift_ns, median_ns = (
            nanoseconds(ms, f"latency {self.name!r}") for ms in (self.shift_ms, self.median_ms)
        )
        content = f"{self.shift_ms!r} {self.median_ms!r} {self.sigma!r}"
        return Lognormal(shift_ns, median_ns, self.sigma, scale, content)


def read_model(name: str) -> LatencyModel:
    """The model called `name`.

    Raises:
        UnknownNameError: There is none.
        DataError: Its file is wrong.
    """
    known = catalog.latency_files(".toml")
    if name not in known:
        raise UnknownNameError("latency model", name, known)
    return parse(LatencyModel, read_toml(known[name]), known[name], given={"name": name})


def read_trace(name: str, precision: str | None = None) -> tuple[NDArray[np.int64], str]:
    """(N,) delays of a trace in nanoseconds, in the order of the calls, and a digest of them.

    Of a bench, these are the policy's own calls with one episode at a time; `precision` says which if there
    are several.

    Raises:
        UnknownNameError: No trace and no file is called `name`.
        DataError: The file is none, or a delay in it is missing or negative.
        VlaBenchError: It holds several policies or precisions, and not one was chosen.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _find(name)
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(path, f"is no Parquet file: {str(error).splitlines()[0]}") from error
    if missing := [column for column in COLUMNS if rows and column not in rows[0]]:
        raise DataError(path, f"has no column {', '.join(missing)}; a trace has {', '.join(COLUMNS)}")
    chosen = _chosen(rows, path, precision)
    samples = np.array([_delay(row, path) for row in chosen], dtype=np.int64)
    return samples, hashlib.sha256(samples.tobytes()).hexdigest()


def _find(name: str) -> Path:
    path = Path(name)
    if path.suffix == ".parquet" or len(path.parts) > 1:
        if not path.is_file():
            raise MissingDataError(
                f"{path}: no such file; `vla-bench bench policy --save-trace` writes traces"
            )
        return path
    known = catalog.latency_files(".parquet")
    if name not in known:
        raise UnknownNameError("latency trace", name, known)
    return known[name]


def _chosen(rows: list[dict[str, Any]], path: Path, precision: str | None) -> list[dict[str, Any]]:
    own = [row for row in rows if row["contender"] == "policy" and row["batch"] == 1]
    if not own:
        raise DataError(path, "holds no call of a policy with a batch of 1; a robot asks for itself alone")
    if precision is not None:
        found = [row for row in own if row["precision"] == precision]
        if not found:
            there = suggest(precision, sorted({row["precision"] for row in own}))
            raise VlaBenchError(f"{path}: holds no call at precision {precision!r}{there}")
        own = found
    cells = sorted({(row["policy"], row["precision"]) for row in own})
    if len(cells) > 1:
        names = ", ".join(f"{policy} at {at}" for policy, at in cells)
        raise VlaBenchError(f"{path}: holds {names}; choose a precision: trace:{path}#{cells[0][1]}")
    return sorted(own, key=lambda row: row["call"])


def _delay(row: dict[str, Any], path: Path) -> int:
    if row["total_ms"] is None:
        raise DataError(path, f"total_ms of call {row['call']} is missing")
    return nanoseconds(row["total_ms"], f"{path}: total_ms of call {row['call']}")
