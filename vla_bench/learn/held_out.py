"""What no demonstration may show: the out-of-distribution tasks and the factors, hashed before training.

A data set carries the digests of the files that describe them, as they were when it was begun. What a policy
that was trained on it is later judged on can be compared with these: nothing was changed to suit it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from vla_bench import catalog
from vla_bench.errors import ConventionError, DataError, MissingDataError
from vla_bench.lerobot.layout import read_json, write_json
from vla_bench.types import TASK_AXES

FILE = "meta/held_out.json"


def files() -> dict[str, Path]:
    """Name → file: of the out-of-distribution suites with their tasks, and of the factors with their texts.

    A suite that needs data which are not here is held out by its own file alone.
    """
    found: dict[str, Path] = {}
    for folder in reversed(catalog.data_folders("tasks")):
        places = [folder / axis for axis in TASK_AXES]
        paths = (path for place in places for path in place.rglob("*") if path.is_file())
        found |= {str(path.relative_to(folder)): path for path in paths}
    for suite in catalog.suites().values():
        if "ood" not in suite.splits:
            continue
        found[suite.source.name] = suite.source
        with contextlib.suppress(MissingDataError):
            for part in suite.divisions:
                if part.split == "ood":
                    tasks = suite.path(part.folder).glob("*.bddl")
                    found |= {f"{suite.name}/{path.name}": path for path in tasks}
    return {name: path for name, path in sorted(found.items()) if not path.name.startswith(".")}


def digests() -> dict[str, str]:
    """Name → SHA-256 of each of these files."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files().items()}


def digest() -> str:
    """One digest of all."""
    return hashlib.sha256("\n".join(f"{k} {v}" for k, v in digests().items()).encode()).hexdigest()


def write(folder: Path) -> None:
    """Write the digests into a data set."""
    write_json(folder / FILE, digests())


def changes(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Names of the files that are not as they were when data sets were begun: `changed`, `added`, `removed`.

    A data set of others carries no digests, and nothing is known of it.

    Raises:
        DataError: The digests of one cannot be read.
    """
    found: dict[str, set[str]] = {"changed": set(), "added": set(), "removed": set()}
    now = digests()
    for then in (read_json(folder / FILE) for folder in folders if (folder / FILE).is_file()):
        found["changed"] |= {name for name in then.keys() & now.keys() if then[name] != now[name]}
        found["added"] |= now.keys() - then.keys()
        found["removed"] |= then.keys() - now.keys()
    return {kind: sorted(names) for kind, names in found.items()}


def require_unchanged(folders: Iterable[Path]) -> None:
    """Refuse data sets that were begun when something held out was not as it is now; more of it is no change.

    Raises:
        ConventionError: It was another, or is not there any more.
        DataError: The digests of one cannot be read.
    """
    folders = list(folders)
    found = changes(folders)
    told = [f"{kind} {', '.join(found[kind])}" for kind in ("changed", "removed") if found[kind]]
    if told:
        raise ConventionError(
            f"since {', '.join(map(str, folders))} was recorded, what is held out has become another "
            f"({'; '.join(told)}): nothing may be made to suit what was seen in training; record "
            "anew, or train with --held-out-changed, and training.json says what has changed"
        )


def check(source: Path, task_ids: Iterable[str]) -> None:
    """Refuse a data set that shows what is held out.

    Args:
        source: The data set, for the message.
        task_ids: Of its episodes; empty ones and those of suites that do not exist here say nothing.

    Raises:
        DataError: It shows an out-of-distribution task.
    """
    known = catalog.suites()
    shown = sorted(task_id for task_id in set(task_ids) if _is_held_out(task_id, known))
    if shown:
        raise DataError(
            source, f"shows {', '.join(shown)}, out of distribution: nothing is trained on what is held out"
        )


def _is_held_out(task_id: str, known: Mapping[str, catalog.Suite]) -> bool:
    """Whether a task is out of distribution; of a suite that is so in part, what it does not know is."""
    name, _, stem = task_id.partition("/")
    if name not in known or "ood" not in known[name].splits:
        return False
    if known[name].splits == ("ood",):
        return True
    part = known[name].divided().get(stem)
    return part is None or part.split == "ood"
