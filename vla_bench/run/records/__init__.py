"""Records of a run: their schema, their lines, the folder that holds them."""

from vla_bench.run.records.comparable import incomparable
from vla_bench.run.records.header import (
    Assets,
    Decided,
    ExpertRate,
    LatencyUsed,
    Loaded,
    RunHeader,
    Session,
    read_header,
)
from vla_bench.run.records.inferences import Inferences, latencies_ms, together
from vla_bench.run.records.lines import decode, encode
from vla_bench.run.records.parquet import Compaction, compact, read_compaction
from vla_bench.run.records.reader import Run, done_keys, garbage_kept, read_run
from vla_bench.run.records.schema import SCHEMA_VERSION, ErrorInfo, Record
from vla_bench.run.records.tail import Tail
from vla_bench.run.records.writer import RecordWriter, note_decisions, open_run

__all__ = [
    "SCHEMA_VERSION",
    "Assets",
    "Compaction",
    "Decided",
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
    "Tail",
    "compact",
    "decode",
    "done_keys",
    "encode",
    "garbage_kept",
    "incomparable",
    "latencies_ms",
    "note_decisions",
    "open_run",
    "read_compaction",
    "read_header",
    "read_run",
    "together",
]
