"""Where a checkpoint's folder is. Nothing is downloaded unless the user named the repository."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from vla_bench.errors import MissingDataError
from vla_bench.policy.cards import Card

# a revision may be a branch with slashes in its name
_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
# no code: what is in these files is data
FILES = ("*.json", "*.safetensors", "*checkpoint*.pt", "lora_adapter/*")


@dataclass(frozen=True, slots=True)
class Taken:
    """A checkpoint's folder, and patterns of its files that are read."""

    folder: Path
    files: tuple[str, ...]


_taken: ContextVar[list[Taken] | None] = ContextVar("taken", default=None)


@contextlib.contextmanager
def noting() -> Iterator[list[Taken]]:
    """Note every checkpoint that is handed out inside the block, so that a run can say what it used."""
    found: list[Taken] = []
    token = _taken.set(found)
    try:
        yield found
    finally:
        _taken.reset(token)


def take(folder: Path, files: Sequence[str]) -> Path:
    """Hand out a checkpoint's folder; `files` are patterns of what is read of it."""
    taken, now = _taken.get(), Taken(folder, tuple(files))
    if taken is not None and now not in taken:
        taken.append(now)
    return folder


def named_folder(named: str, files: Sequence[str] = FILES) -> Path:
    """Return the folder that the user named, or fetch the repository `owner/name[@revision]` of the hub.

    `files` are patterns of those that are fetched.

    Raises:
        MissingDataError: It is neither, or it cannot be fetched.
    """
    if Path(named).expanduser().is_dir():
        return take(Path(named).expanduser(), files)
    repository = _REPOSITORY.fullmatch(named)
    if repository is None:
        raise MissingDataError(f"{named}: no such folder, and not owner/name[@revision] of a hub repository")
    return _snapshot(repository["repo"], repository["revision"], files, fetch=True)


def card_folder(card: Card, files: Sequence[str] = FILES) -> Path:
    """Return the folder that a card names, or what was fetched earlier of its repository.

    Raises:
        MissingDataError: It is not on this machine; says how to get it.
    """
    checkpoint = card.checkpoint
    if checkpoint.folder is not None:
        folder = card.source.parent / Path(checkpoint.folder).expanduser()
        if not folder.is_dir():
            raise MissingDataError(f"{card.source}: checkpoint.folder {folder} does not exist")
        return take(folder, files)
    if checkpoint.repo is None:
        raise MissingDataError(f"{card.source}: names neither checkpoint.folder nor checkpoint.repo")
    return fetched_folder(checkpoint.repo, checkpoint.revision, files)


def fetched_folder(repo: str, revision: str | None = None, files: Sequence[str] = FILES) -> Path:
    """Return what was fetched earlier of a repository.

    Raises:
        MissingDataError: It is not on this machine; says how to get it.
    """
    return _snapshot(repo, revision, files, fetch=False)


def _snapshot(repo: str, revision: str | None, files: Sequence[str], *, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repo, revision=revision, allow_patterns=list(files), local_files_only=not fetch
        )
    except LocalEntryNotFoundError as error:
        at = "".join(f" {name}" for name in files if "*" not in name)
        at += f" --revision {revision}" if revision else ""
        how = "there is no connection to it" if fetch else f"fetch it with `hf download {repo}{at}`"
        raise MissingDataError(f"checkpoint {repo} is not on this machine; {how}") from error
    except (HfHubHTTPError, OSError) as error:
        raise MissingDataError(f"checkpoint {repo} cannot be fetched: {error}") from error
    return take(Path(found), files)
