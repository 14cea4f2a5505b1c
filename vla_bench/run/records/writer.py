"""Writing a results folder: nothing is overwritten, and what `append` returned from is on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from vla_bench.errors import VlaBenchError
from vla_bench.run.records.files import file_of
from vla_bench.run.records.header import HEADER_FILE, Decided, RunHeader, read_header
from vla_bench.run.records.lines import encode
from vla_bench.run.records.schema import Record
from vla_bench.run.records.tail import end_of_last_line


def check_run(folder: str | Path, study_name: str, study_hash: str, plan_hash: str) -> RunHeader | None:
    """See whether a plan may be run in `folder`, without touching it; returns the header that is there.

    Args:
        folder: Of results; it need not exist.
        study_name: What the study is called in a sentence.
        study_hash: Of the study.
        plan_hash: Of the plan.

    Raises:
        VlaBenchError: The folder holds results of another study, plan or schema, a broken header, or files
            that are no results; or it cannot be written.
    """
    folder = Path(folder)
    try:
        _require_writable(folder)
        if (folder / HEADER_FILE).exists():
            header = read_header(folder)
            _require_same_study(folder, header, study_name, study_hash, plan_hash)
            return header
        if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise VlaBenchError(f"{folder} holds files, but no run of vla-bench; choose an empty --out")
    except OSError as error:
        raise _cannot_hold(folder, error) from error
    return None


def open_run(folder: str | Path, header: RunHeader) -> RunHeader:
    """Begin a run in `folder`, or continue the one that is there; returns the header as written.

    Raises:
        VlaBenchError: As `check_run`; or the folder was made under another fingerprint.
    """
    folder = Path(folder)
    old = check_run(folder, header.study_name, header.study_hash, header.plan_hash)
    if old is not None:
        header = _continued(folder, old, header)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / HEADER_FILE, header.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise _cannot_hold(folder, error) from error
    return header


def _cannot_hold(folder: Path, error: OSError) -> VlaBenchError:
    where = "" if error.filename in (None, str(folder)) else f" ({error.filename})"
    return VlaBenchError(f"{folder} cannot hold results: {error.strerror}{where}; choose another --out")


def _require_writable(folder: Path) -> None:
    """See that the folder, or the nearest one above it that exists, takes files.

    Raises:
        OSError: It does not, as the system words it.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        read_only = os.statvfs(there).f_flag & os.ST_RDONLY
        code = errno.EROFS if read_only else errno.EACCES
        raise OSError(code, os.strerror(code), str(there))


def _require_same_study(
    folder: Path, old: RunHeader, study_name: str, study_hash: str, plan_hash: str
) -> None:
    if old.study_hash != study_hash:
        changed = ": its file or its flags changed since" if old.study_name == study_name else ""
        raise VlaBenchError(
            f"{folder} holds results of another study ({old.study_name}-{old.study_hash[:8]}, this is "
            f"{study_name}-{study_hash[:8]}{changed}); nothing was changed; choose another --out"
        )
    if old.plan_hash != plan_hash:
        raise VlaBenchError(
            f"{folder} holds results of this study with other tasks, budgets or lengths: a suite changed "
            f"since; nothing in the folder did; choose another --out"
        )


def note_decisions(folder: Path, decided: Sequence[Decided], surplus: Sequence[str]) -> None:
    """Write into the header of a run what is decided, and which records were not needed for it."""
    changes = {"decided": tuple(decided), "surplus": tuple(surplus)}
    header = read_header(folder).model_copy(update=changes)
    _replace(folder / HEADER_FILE, header.model_dump_json(indent=2) + "\n")


def _continued(folder: Path, old: RunHeader, new: RunHeader) -> RunHeader:
    """The header of a run that goes on: the old one, with the new session."""
    before, now = old.sessions[-1].fingerprint, new.sessions[-1].fingerprint
    if None not in (before, now) and before != now:
        raise VlaBenchError(
            f"{folder} was made under fingerprint {before}, this machine has {now}: pictures or physics "
            f"differ and do not belong into one table; choose another --out"
        )
    return old.model_copy(update={"sessions": old.sessions + new.sessions})


class RecordWriter:
    """Appends the records of one worker to its own file; only one process at a time may hold it.

    Args:
        folder: A folder that `open_run` prepared.
        worker: Letters, digits, `.`, `_`, `-`; the file is `episodes-<worker>.jsonl`.

    Raises:
        VlaBenchError: The file cannot be opened, or another process writes it.
    """

    def __init__(self, folder: str | Path, worker: str = "0") -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", worker):
            raise VlaBenchError(f"worker {worker!r}: a worker's name holds letters, digits, '.', '_' and '-'")
        self.path = file_of(Path(folder), worker)
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            _lock(self._file, self.path)
            os.ftruncate(self._file, end_of_last_line(self._file))  # a torn line would swallow the next
            _sync_folder(self.path.parent)
        except OSError as error:
            raise VlaBenchError(f"{self.path} cannot be written: {error.strerror}") from error

    def append(self, record: Record) -> None:
        """Write one record and wait until the disk has it.

        Raises:
            VlaBenchError: It could not be written (disk full, say); the lines before it are as they were.
        """
        line = encode(record)
        before = os.fstat(self._file).st_size
        try:
            _write_all(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(
                OSError
            ):  # otherwise the torn line is dropped when the file is next opened
                os.ftruncate(self._file, before)
            raise VlaBenchError(
                f"{self.path}: a record could not be written: {error.strerror}; all records before it are "
                f"intact, and the same command continues the run"
            ) from error

    def close(self) -> None:
        """Close the file and let others write it."""
        os.close(self._file)

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _lock(file: int, path: Path) -> None:
    import fcntl  # absent on Windows, where reports can still be read

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise VlaBenchError(
            f"{path}: another process is writing this run; wait for it, or choose another --out"
        ) from error
    except OSError:
        return  # a file system without locks: nothing to ask


def _replace(path: Path, text: str) -> None:
    """Write a file so that at any moment either the old or the new content is there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the folder's own entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
