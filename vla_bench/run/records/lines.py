"""A record as a line of JSON with a checksum, and back."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from vla_bench.errors import VlaBenchError
from vla_bench.run.records.schema import Record, check_schema

_ADAPTER = TypeAdapter(Record)
_CHECKSUM = re.compile(rb'\{"checksum":"([0-9a-f]{8})",')


def encode(record: Record) -> bytes:
    """Return the line of a record, with its checksum and line end.

    Numpy scalars and arrays become plain values. A float that is not finite becomes null where a record may
    lack that value.

    Raises:
        VlaBenchError: A value that a record cannot lack is not finite or of a wrong type.
    """
    try:
        body = json.dumps(_plain(asdict(record)), separators=(",", ":"), allow_nan=False).encode()
        _ADAPTER.validate_json(body, strict=True)  # only what can be read is written
    except (TypeError, ValidationError) as error:
        problem = _sentence(error) if isinstance(error, ValidationError) else str(error)
        raise VlaBenchError(
            f"{record.episode.key} with {record.arm.key} cannot be recorded: {problem}"
        ) from error
    return b'{"checksum":"%08x",%b\n' % (zlib.crc32(body), body[1:])


def decode(line: bytes) -> Record:
    """Return the record of a line.

    Raises:
        ValueError: The line is damaged.
        VlaBenchError: The line is sound, but of another schema.
    """
    head = _CHECKSUM.match(line)
    if head is None:
        raise ValueError("is not a record (no checksum)")
    body = b"{" + line[head.end() :].rstrip(b"\n")
    if zlib.crc32(body) != int(head[1], 16):
        raise ValueError("is damaged (its checksum does not match)")
    try:
        return _ADAPTER.validate_json(body, strict=True)
    except ValidationError as error:
        check_schema(from_json(body), "a record")
        raise ValueError(f"does not fit the schema: {_sentence(error)}") from error


def _plain(value: Any) -> Any:
    """Return `value` in JSON's types; what is not finite becomes None."""
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):  # a lone surrogate (an undecodable file name, say) is not JSON
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _sentence(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'record'} = {problem['input']!r}: {problem['msg']}"
        for problem in error.errors()
    )
