"""Every latency of a bench as a Parquet file: what a simulation can later draw delays from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vla_bench.errors import VlaBenchError
from vla_bench.policy.bench.measure import Cell

METADATA = b"vla_bench"


def write_trace(path: Path, cells: Sequence[Cell], about: Mapping[str, Any]) -> int:
    """Write one row a call: whose it is, then the milliseconds of each phase (`total_ms`, `inference_ms`, …).

    Calls of a contender are in the order in which they were made; a phase that a policy does not have is
    null. The schema's metadata holds, as JSON under `vla_bench`, where it was measured.

    Args:
        path: The file.
        cells: What was measured; those with an error have no rows.
        about: Device, versions and whatever else says where the numbers are from.

    Returns:
        Number of rows.

    Raises:
        VlaBenchError: There is nothing to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "policy": cell.policy, "precision": cell.precision, "batch": cell.batch,
            "contender": contender, "call": index,
            **{f"{phase.replace('.', '_')}_ms": ms for phase, ms in call.items()},
        }
        for cell in cells
        for contender, calls in cell.calls.items()
        for index, call in enumerate(calls)
    ]  # fmt: skip
    if not rows:
        raise VlaBenchError(f"{path}: not written, because nothing was measured")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in columns})
    machines = [dataclasses.asdict(cell.machine) for cell in cells if cell.machine is not None]
    told = {**about, "machines": [m for i, m in enumerate(machines) if m not in machines[:i]]}
    pq.write_table(table.replace_schema_metadata({METADATA: json.dumps(told)}), path)
    return len(rows)
