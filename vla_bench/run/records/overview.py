"""One row about a run: what a table of many runs shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vla_bench.run.records.header import RunHeader

if TYPE_CHECKING:
    import pyarrow as pa


def runs_table(header: RunHeader, recorded: int) -> pa.Table:
    """The row of `runs.parquet`: a run by its last session; `study`, `versions` and `header` are JSON.

    Args:
        header: Of the run.
        recorded: How many of its work items have a record.
    """
    import pyarrow as pa

    last = header.sessions[-1]
    texts = {
        "study_name": header.study_name, "study_hash": header.study_hash, "plan_hash": header.plan_hash,
        "started_at": header.sessions[0].started_at, "continued_at": last.started_at,
        "command": " ".join(last.command), "git_commit": last.git_commit, "python": last.python,
        "platform": last.platform, "device": last.device, "driver": last.driver,
        "gl_renderer": last.gl_renderer, "fingerprint": last.fingerprint,
        "versions": json.dumps(last.versions), "study": json.dumps(header.study),
        "header": header.model_dump_json(),
    }  # fmt: skip
    numbers = {
        "schema_version": header.schema_version, "planned": header.planned, "recorded": recorded,
        "sessions": len(header.sessions),
    }  # fmt: skip
    columns = {name: pa.array([value], pa.string()) for name, value in texts.items()}
    columns |= {name: pa.array([value], pa.int64()) for name, value in numbers.items()}
    return pa.table({**columns, "git_dirty": pa.array([last.git_dirty], pa.bool_())})
