"""Checks of a results folder that need nothing but the folder: every line is read again."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_bench.run.records.files import LineFile, record_files
from vla_bench.run.records.header import RunHeader, read_header
from vla_bench.run.records.parquet import EPISODES, read_compaction
from vla_bench.run.records.reader import chosen
from vla_bench.run.records.schema import Record

# What the clock on the wall, the machine and the place decide; everything else belongs to the episode.
UNREPEATABLE = frozenset(
    {
        "study_hash", "wall_s", "policy_hz", "peak_device_memory_bytes", "video", "fingerprint", "worker",
        "started_at",
    }
)  # fmt: skip
_PHASES = ("preprocess_ms", "inference_ms", "postprocess_ms")


@dataclass(frozen=True, slots=True)
class Audit:
    """What a folder holds.

    Attributes:
        lines: Lines whose checksum was recomputed.
        records: Those that count, one a work item.
        findings: Sentences on what is wrong.
        remarks: Sentences on what is worth knowing, and not wrong.
    """

    header: RunHeader
    lines: int
    records: tuple[Record, ...]
    findings: tuple[str, ...]
    remarks: tuple[str, ...]


def audit(folder: Path) -> Audit:
    """Recompute the checksum of every line.

    Raises:
        MissingDataError: The folder holds no run.
        VlaBenchError: Its header is broken, or something in it is of another schema.
    """
    header, findings, remarks = read_header(folder), list[str](), list[str]()
    files = [LineFile(path, header.study_hash) for path in record_files(folder)]
    found = [line.record for line in itertools.chain.from_iterable(files)]
    for file in files:
        findings += file.problems
        remarks += [file.torn] if file.torn else []
    findings += _contradictions(found)
    compaction = read_compaction(folder)
    if (folder / EPISODES).exists() and not (compaction and compaction.is_current(folder)):
        remarks.append("the Parquet files are not current; where lines are newer or changed, the lines count")
    records = chosen(found)
    if len(records) < len(found):
        superseded = len(found) - len(records)
        remarks.append(f"{superseded} records are superseded by another of the same episode and arm")
    lines = sum(file.part().lines for file in files)
    return Audit(header, lines, records, tuple(findings), tuple(remarks))


def repeatable(record: Record) -> dict[str, Any]:
    """Plain values of what an episode decides: the same whoever plays it, wherever and whenever."""
    table = {key: value for key, value in dataclasses.asdict(record).items() if key not in UNREPEATABLE}
    calls = {key: list(value) for key, value in table["inferences"].items() if key not in _PHASES}
    return table | {"inferences": calls}


def differences(one: Record, other: Record) -> list[str]:
    """`field: value, then value` for each field that an episode decides and that differs."""
    found = [
        f"{field.name}: {getattr(one, field.name)!r}, then {getattr(other, field.name)!r}"
        for field in dataclasses.fields(Record)
        if field.name not in UNREPEATABLE | {"inferences", "error"}
        and getattr(one, field.name) != getattr(other, field.name)
    ]
    if (one.error is None) != (other.error is None):
        found.append(f"error: {_said(one)}, then {_said(other)}")
    return found + list(_inferences(one, other))


def _inferences(one: Record, other: Record) -> Iterator[str]:
    for column in dataclasses.fields(one.inferences):
        before, after = (list(getattr(record.inferences, column.name)) for record in (one, other))
        if len(before) != len(after):
            yield f"inferences: {len(before)}, then {len(after)}"
            return
        if column.name not in _PHASES and before != after:
            pairs = enumerate(zip(before, after, strict=True))
            call, (was, then) = next((index, pair) for index, pair in pairs if pair[0] != pair[1])
            yield f"{column.name} of inference {call}: {was}, then {then}"


def _said(record: Record) -> str:
    return f"{record.error.type}: {record.error.message}" if record.error else "none"


def _contradictions(records: Iterable[Record]) -> Iterator[str]:
    """Work items that were played to the end twice, and not alike."""
    first: dict[str, Record] = {}
    for record in records:
        if record.status == "error":
            continue
        before = first.setdefault(record.key, record)
        if differing := differences(before, record):
            item = f"{record.episode.key} with {record.arm.key}"
            yield f"{item} was played twice, differently: {'; '.join(differing)}"
