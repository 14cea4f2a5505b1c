"""Which files policies were loaded from: their digests, for the header of a run."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from vla_bench.policy.hub import Taken


def file_digests(taken: Iterable[Taken]) -> dict[str, str]:
    """Relative path → SHA-256 of the files of some checkpoints.

    A path that comes again with another content begins with its folder. A file that has not changed since is
    not read again by this process.
    """
    found: dict[str, str] = {}
    for checkpoint in taken:
        paths = {path for pattern in checkpoint.files for path in checkpoint.folder.glob(pattern)}
        for path in sorted(path for path in paths if path.is_file()):
            name, digest = path.relative_to(checkpoint.folder).as_posix(), digest_of(path)
            if found.setdefault(name, digest) != digest:
                found[f"{checkpoint.folder.name}/{name}"] = digest
    return found


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _digest(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
