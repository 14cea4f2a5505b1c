"""Records of a run: their schema, their lines, the folder that holds them."""

from vla_bench.run.records.header import (
    Assets,
    ExpertRate,
    LatencyUsed,
    Loaded,
    RunHeader,
    Session,
    read_header,
)
from vla_bench.run.records.lines import decode, encode
from vla_bench.run.records.reader import Run, done_keys, read_run
from vla_bench.run.records.schema import SCHEMA_VERSION, ErrorInfo, Inferences, Record
from vla_bench.run.records.writer import RecordWriter, open_run

__all__ = [
    "SCHEMA_VERSION",
    "Assets",
    "ErrorInfo",
    "ExpertRate",
    "Inferences",
    "LatencyUsed",
    "Loaded",
    "Record",
    "RecordWriter",
    "Run",
    "RunHeader",
    "Session",
    "decode",
    "done_keys",
    "encode",
    "open_run",
    "read_header",
    "read_run",
]
