"""Getting LIBERO's data: from a folder, or over the network from where it is published.

Meshes and textures come from the Hugging Face hub; task definitions and initial states, which are not there,
from LIBERO's own repository. Both revisions are fixed and every file is checked against its digest.
Files gather in a folder beside the destination, which is replaced as a whole when all are there: what is
half fetched never looks complete, and the same call continues it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from vla_bench import catalog
from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError, VlaBenchError
from vla_bench.sim.assets import AssetStatus, LiberoFile, file_digest, libero_files, libero_status

HUB_REPOSITORY = "lerobot/libero-assets"
HUB_REVISION = "0b3ea86be5fe169d0fd036ae63d1070ec09e90f6"
HUB_FOLDER = "assets"

GIT_REPOSITORY = "https://github.com/Lifelong-Robot-Learning/LIBERO"
GIT_VARIABLE = "VLA_BENCH_LIBERO_GIT"
GIT_REVISION = "8f1084e3132a39270c3a13ebe37270a43ece2a01"
GIT_FOLDERS = ("libero/libero/bddl_files", "libero/libero/init_files")

_ALTERNATIVE = "run the same again to continue, or take LIBERO's data from a folder (--from)"


def fetch_libero(
    source: Path | Literal["hub"], *, revision: str = HUB_REVISION, into: Path | None = None
) -> AssetStatus:
    """Put LIBERO's data into the cache, and say what is missing or stands in for something else.

    Files of the destination that are LIBERO's own are kept, not fetched again.

    Args:
        source: A folder that holds LIBERO's data or a clone of its repository; or `hub`, for the network
            (`HF_ENDPOINT` and `VLA_BENCH_LIBERO_GIT` name mirrors).
        revision: Commit or branch of the hub's repository.
        into: Destination; by default where `catalog.libero_root` looks.

    Returns:
        The state of the destination. From a folder it may lack files; from the network it is complete.

    Raises:
        MissingDataError: The source is not there, or does not have all files.
        DataError: A fetched file is not LIBERO's.
    """
    root = into or catalog.libero_cache()
    partial = root.with_name(root.name + ".partial")
    with _alone(root):
        kept = _keep(root, partial)
        wanted = [file for file in libero_files().values() if file.path not in kept]
        if source == "hub":
            on_hub = [file for file in wanted if file.path.startswith(f"{HUB_FOLDER}/")]
            _fetch_from_hub(on_hub, partial, revision)
            _fetch_from_git([file for file in wanted if file not in on_hub], partial)
            _require_originals(partial)
        else:
            _copy(wanted, [_data_folder(source), root], partial)
        _replace(root, partial)
    return libero_status(root)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one process at a time work on the destination, and finish what an earlier one was killed in."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(root.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise VlaBenchError(f"another process is fetching LIBERO's data into {root}") from error
        previous = _previous(root)
        if previous.exists() and not root.exists():
            previous.rename(root)
        _remove(previous)
        yield


def _previous(root: Path) -> Path:
    return root.with_name(root.name + ".previous")


def _keep(root: Path, partial: Path) -> set[str]:
    """Leave only LIBERO's own files in `partial`, add those of `root`, and return their paths."""
    kept = set()
    for file in libero_files().values():
        target = partial / file.path
        if file_digest(target) == file.sha256:
            kept.add(file.path)
            continue
        target.unlink(missing_ok=True)
        if file_digest(root / file.path) == file.sha256:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(root / file.path, target)
            except OSError:  # another file system, or one without links
                shutil.copyfile(root / file.path, target)
            kept.add(file.path)
    return kept


def _fetch_from_hub(wanted: Sequence[LiberoFile], partial: Path, revision: str) -> None:
    """Download meshes and textures; the hub client shows progress and resumes what was interrupted."""
    if not wanted:
        return
    import huggingface_hub

    endpoint = os.environ.get("HF_ENDPOINT") or huggingface_hub.constants.ENDPOINT
    target = partial / HUB_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    try:
        huggingface_hub.snapshot_download(
            HUB_REPOSITORY,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[file.path.removeprefix(f"{HUB_FOLDER}/") for file in wanted],
            local_dir=target,
            endpoint=endpoint,
        )
    except Exception as error:  # its own, its HTTP library's, OSError, ValueError
        what = f"{HUB_REPOSITORY} at {revision} from {endpoint}"
        raise _not_fetched(what, str(error) or type(error).__name__) from error
    # Without a connection the client is content with what lies there already.
    absent = [file.path for file in wanted if not (partial / file.path).is_file()]
    if absent:
        reason = f"{len(absent)} files did not come, for example {absent[0]}"
        raise _not_fetched(f"{HUB_REPOSITORY} at {revision} from {endpoint}", reason)


def _fetch_from_git(wanted: Sequence[LiberoFile], partial: Path) -> None:
    """Take task definitions and initial states from LIBERO's repository, without its other files."""
    if not wanted:
        return
    repository = os.environ.get(GIT_VARIABLE) or GIT_REPOSITORY
    with tempfile.TemporaryDirectory(prefix="libero-", dir=partial.parent) as clone:

        def git(*arguments: str) -> None:
            subprocess.run(
                ["git", "-C", clone, *arguments],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
            )

        try:
            git("init", "--quiet")
            git("remote", "add", "origin", repository)
            git("sparse-checkout", "set", *GIT_FOLDERS)
            git("fetch", "--quiet", "--depth=1", "--filter=blob:none", "origin", GIT_REVISION)
            git("checkout", "--quiet", "FETCH_HEAD")
        except FileNotFoundError as error:
            raise MissingCapabilityError(f"git is needed to fetch {repository}: install git") from error
        except subprocess.CalledProcessError as error:
            raise _not_fetched(f"{repository} at {GIT_REVISION}", error.stderr) from error
        _copy(wanted, [_data_folder(Path(clone))], partial)


def _require_originals(partial: Path) -> None:
    """Refuse what was fetched if a file is not LIBERO's, and forget that file, so that it is fetched anew."""
    status = libero_status(partial)
    for name in (*status.altered, *status.standins):
        (partial / name).unlink()
    if not status.is_original:
        raise DataError(partial, f"what was fetched is not LIBERO's data: {status}; {_ALTERNATIVE}")


def _data_folder(folder: Path) -> Path:
    """The data folder in what a user may name: itself, or a clone or installation of LIBERO."""
    places = [folder, folder / "libero", folder / "libero" / "libero"]
    parts = ("assets", "bddl_files", "init_files")
    found = next((p for p in places if any((p / part).is_dir() for part in parts)), None)
    if found is None:
        raise MissingDataError(f"{folder}: neither it nor its libero/ holds {', '.join(parts)}")
    return found


def _copy(wanted: Sequence[LiberoFile], sources: Sequence[Path], partial: Path) -> None:
    """Copy each file from the first folder that has it."""
    for file in wanted:
        found = next((s / file.path for s in sources if (s / file.path).is_file()), None)
        if found is not None:
            target = partial / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, target)


def _replace(root: Path, partial: Path) -> None:
    """Make `partial` the destination."""
    if not partial.is_dir():
        raise MissingDataError(f"none of LIBERO's files is there; {_ALTERNATIVE}")
    shutil.rmtree(partial / HUB_FOLDER / ".cache", ignore_errors=True)  # the hub client's notes
    if root.exists():
        root.rename(_previous(root))
    partial.rename(root)
    _remove(_previous(root))


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _not_fetched(what: str, reason: str) -> MissingDataError:
    first = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
    return MissingDataError(f"could not fetch {what}: {first}; {_ALTERNATIVE}")
