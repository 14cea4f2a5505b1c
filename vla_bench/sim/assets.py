"""LIBERO's data folder: which files belong in it, which are there, and how to get them.

`data/libero_files.csv` lists what the 130 tasks need (LIBERO, commit 8f1084e) with size and SHA-256. Some
textures and meshes circulate as stand-ins: small files under the same names that only show something else.
Their digests are listed too, so that pictures with stand-ins are never mistaken for LIBERO's.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_bench import catalog
from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError

ROBOSUITE_VERSION = "1.4.0"
HOW_TO_GET = (
    f"run `vla-bench assets libero`, or set {catalog.LIBERO_VARIABLE} to a folder that holds all of LIBERO"
)
MANIFEST = Path(__file__).parent / "data" / "libero_files.csv"


@dataclass(frozen=True, slots=True)
class LiberoFile:
    """A file of LIBERO's data folder as it should be, and its stand-in where one is known."""

    path: str
    size: int
    sha256: str
    standin_size: int | None
    standin_sha256: str | None


@dataclass(frozen=True, slots=True)
class AssetStatus:
    """What of LIBERO's data a folder holds; files by their path below it.

    Attributes:
        root: The folder.
        missing: Files that are not there.
        standins: Files that are known stand-ins: physics is LIBERO's, pictures are not.
        altered: Files that are neither LIBERO's nor stand-ins.
        digest: SHA-256 over paths and contents of the files that are there, for records.
    """

    root: Path
    missing: tuple[str, ...]
    standins: tuple[str, ...]
    altered: tuple[str, ...]
    digest: str

    @property
    def is_original(self) -> bool:
        """Whether every file is LIBERO's own, so that pictures are LIBERO's."""
        return not (self.missing or self.standins or self.altered)

    def __str__(self) -> str:
        parts = [
            f"{len(files)} {what} ({', '.join(files[:3])}{', …' if len(files) > 3 else ''})"
            for what, files in (
                ("missing", self.missing),
                ("different from LIBERO's", self.altered),
                ("stand-ins, with which pictures are not LIBERO's", self.standins),
            )
            if files
        ]
        return f"{self.root}: {'; '.join(parts) or 'complete, all files are LIBERO’s'}"


def libero_files() -> Mapping[str, LiberoFile]:
    """All files that LIBERO's 130 tasks need, by path below the data folder."""
    return _read_manifest(MANIFEST)


@functools.cache
def _read_manifest(path: Path) -> Mapping[str, LiberoFile]:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [
            LiberoFile(
                path=row["path"],
                size=int(row["size"]),
                sha256=row["sha256"],
                standin_size=int(row["standin_size"]) if row["standin_size"] else None,
                standin_sha256=row["standin_sha256"] or None,
            )
            for row in csv.DictReader(stream)
        ]
    return {file.path: file for file in rows}


def libero_status(root: Path) -> AssetStatus:
    """Read and compare every file of a LIBERO data folder (about 230 MB, well under a second once cached)."""
    missing, standins, altered = [], [], []
    content = hashlib.sha256()
    for file in libero_files().values():
        digest = file_digest(root / file.path)
        if digest is None:
            missing.append(file.path)
            continue
        content.update(f"{file.path} {digest}\n".encode())
        if digest == file.standin_sha256:
            standins.append(file.path)
        elif digest != file.sha256:
            altered.append(file.path)
    return AssetStatus(root, tuple(missing), tuple(standins), tuple(altered), content.hexdigest())


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file in hexadecimal, None if there is no such file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def check_files(paths: Iterable[Path], root: Path | None = None) -> None:
    """Check that files are there and, where they are LIBERO's, have all their bytes; sizes only, so quick.

    Args:
        paths: Files that a scene needs.
        root: LIBERO's data folder; by default the one in use.

    Raises:
        MissingDataError: One is not there; says how to get it where it is LIBERO's.
        DataError: One is shorter or longer than LIBERO's file and its stand-in.
    """
    for path in paths:
        why = remedy(path, root)
        if not path.is_file():
            raise MissingDataError(f"{path}: no such file{why}")
        if why:
            raise DataError(path, why.removeprefix("; "))


def remedy(path: Path, root: Path | None = None) -> str:
    """The end of an error's sentence about a file: what is wrong with it and how to get it.

    Empty for a file that is not LIBERO's, or has the size of LIBERO's or of its stand-in.

    Args:
        path: The file.
        root: LIBERO's data folder; by default the one in use.
    """
    try:
        name = Path(os.path.normpath(path)).relative_to(root or catalog.libero_root()).as_posix()
        known = libero_files()[name]
    except (ValueError, KeyError, MissingDataError):
        return ""
    if not path.is_file():
        return f"; {HOW_TO_GET}"
    size = path.stat().st_size
    if size in (known.size, known.standin_size):
        return ""
    return f"; has {size} bytes, LIBERO's file has {known.size}; {HOW_TO_GET}"


def robosuite_assets() -> Path:
    """The folder of robosuite's model files, found without importing robosuite.

    Importing it opens a log file, pulls OpenCV and changes `MUJOCO_GL`.

    Raises:
        MissingCapabilityError: robosuite is not installed, or another version, whose robot differs.
    """
    install = f"pip install robosuite=={ROBOSUITE_VERSION}"
    spec = importlib.util.find_spec("robosuite")
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place) / "models" / "assets"
        if (folder / "robots" / "panda" / "robot.xml").is_file():
            break
    else:
        raise MissingCapabilityError(
            f"the robot's model files come with robosuite, which is missing: {install}"
        )
    version = importlib.metadata.version("robosuite")
    if version != ROBOSUITE_VERSION:
        raise MissingCapabilityError(
            f"robosuite {version} is installed; LIBERO's robot is that of {ROBOSUITE_VERSION}: {install}"
        )
    return folder
