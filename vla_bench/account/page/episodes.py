"""Episodes as rows to read: one a task, variation and start, its arms side by side, what went wrong first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from vla_bench.account.tables.table import arm_label, hertz, shown_columns
from vla_bench.run.records import Record, Run
from vla_bench.types import Arm, Episode

# Kind of a row → what is said of its rows; in the order of the page.
KINDS = {
    "error": "An arm ended in an error",
    "mixed": "Arms ended differently",
    "failure": "Failed",
    "success": "Succeeded",
}
ERRORS = 100  # that are listed, of those with different messages
GROUP_ROWS = 500  # a browser lays out a group at once when it is opened


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one arm ended an episode.

    Attributes:
        text: The status, and why.
        error: Number of its error in the list of errors; 0 for none, and for one that is not listed.
        policy_hz: As text, like `steps`.
        video: Address relative to the page; "" where there is none.
        lost: Whether the record names a video that is not there.
    """

    status: str
    text: str
    error: int
    steps: int
    policy_hz: str
    video: str
    lost: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One initial state; `outcomes` has an entry for each arm, None where it has not run.

    Attributes:
        instruction: Where it is another than that of the group.
    """

    kind: str
    start: str
    variation: str
    instruction: str
    outcomes: tuple[Outcome | None, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one kind and task, or a part of them; `label` says which."""

    kind: str
    task_id: str
    label: str
    instruction: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Error:
    """Errors with the same type and message; `traceback` is that of the first."""

    number: int
    type: str
    message: str
    traceback: str
    count: int
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """All episodes of a run.

    Attributes:
        arms: Their labels, in the order of the outcomes of a row.
        errors: The most frequent; `further_errors` is how many others there are.
        endings: How often each arm ended how, errors first; as words, and a count for each arm.
        videos: How many episodes have one.
    """

    arms: tuple[str, ...]
    groups: tuple[Group, ...]
    errors: tuple[Error, ...]
    further_errors: int
    endings: tuple[tuple[str, tuple[int, ...]], ...]
    videos: int

    @property
    def rows(self) -> int:
        """Number of initial states."""
        return sum(len(group.rows) for group in self.groups)


def list_episodes(run: Run) -> Listing:
    """Pair the records of a run by initial state and sort them: errors, differences, failures, successes."""
    arms = tuple(dict.fromkeys([*run.header.arms, *(record.arm for record in run.records)]))
    shown = shown_columns(arms)
    labels = {arm: arm_label(arm, shown) for arm in arms}
    errors = _errors(run.records, labels)
    numbers = {(error.type, error.message): error.number for error in errors[:ERRORS]}
    outcomes = {record.key: _outcome(record, run.folder, numbers) for record in run.records}
    by_kind: dict[str, list[Group]] = {kind: [] for kind in KINDS}
    for task_id, records in groupby(run.records, key=lambda record: record.task_id):
        for group in _groups(task_id, list(records), arms, outcomes):
            by_kind[group.kind].append(group)
    return Listing(
        arms=tuple(labels.values()),
        groups=tuple(group for groups in by_kind.values() for group in groups),
        errors=errors[:ERRORS],
        further_errors=max(0, len(errors) - ERRORS),
        endings=_endings(run.records, outcomes, arms),
        videos=sum(bool(outcome.video) for outcome in outcomes.values()),
    )


def _groups(
    task_id: str, records: Sequence[Record], arms: Sequence[Arm], outcomes: dict[str, Outcome]
) -> Iterator[Group]:
    """The rows of a task by kind, in parts that a browser opens without a pause."""
    unvaried = [record for record in records if not record.variation] or records
    usual = Counter(record.instruction for record in unvaried).most_common(1)[0][0]
    by_kind: defaultdict[str, list[Row]] = defaultdict(list)
    by_episode: defaultdict[Episode, list[Record]] = defaultdict(list)
    for record in records:
        by_episode[record.episode].append(record)
    for episode, paired in by_episode.items():
        own = {record.arm: outcomes[record.key] for record in paired}
        start = f"seed {episode.seed}" if episode.init_state is None else f"init {episode.init_state}"
        told = "" if paired[0].instruction == usual else paired[0].instruction
        row = Row(_kind(own.values()), start, episode.variation, told, tuple(map(own.get, arms)))
        by_kind[row.kind].append(row)
    for kind, rows in by_kind.items():
        for i in range(0, len(rows), GROUP_ROWS):
            part = rows[i : i + GROUP_ROWS]
            label = f"{len(rows)}" if len(part) == len(rows) else f"{i + 1}–{i + len(part)} of {len(rows)}"
            yield Group(kind, task_id, label, usual, tuple(part))


def _kind(outcomes: Iterable[Outcome]) -> str:
    statuses = {outcome.status for outcome in outcomes}
    if "error" in statuses:
        return "error"
    return statuses.pop() if len(statuses) == 1 else "mixed"


def _outcome(record: Record, folder: Path, numbers: dict[tuple[str, str], int]) -> Outcome:
    why = record.cause if record.error is None else record.error.type
    video = _inside(record.video)
    found = bool(video) and (folder / video).is_file()
    return Outcome(
        status=record.status,
        text=f"{record.status}: {why}" if why else record.status,
        error=0 if record.error is None else numbers.get((record.error.type, record.error.message), 0),
        steps=record.steps,
        policy_hz=hertz(record.policy_hz),
        video=quote(video) if found else "",
        lost=record.video is not None and not found,
    )


def _inside(path: str | None) -> str:
    """A path below the folder of the run, or "": a page links to nothing else, whatever a record says."""
    parts = PurePosixPath(path or "").parts
    return "/".join(parts) if parts and parts[0] != "/" and ".." not in parts else ""


def _errors(records: Iterable[Record], labels: dict[Arm, str]) -> tuple[Error, ...]:
    """Errors by type and message, the most frequent first."""
    found: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.error is not None:
            found[record.error.type, record.error.message].append(record)
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        Error(
            number, kind, message, next(r.error.traceback for r in own if r.error), len(own),
            tuple(dict.fromkeys(labels[record.arm] for record in own)),
        )
        for number, ((kind, message), own) in enumerate(ranked, start=1)
    )  # fmt: skip


def _endings(
    records: Iterable[Record], outcomes: dict[str, Outcome], arms: Sequence[Arm]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    order = list(KINDS)
    counts: defaultdict[tuple[int, str], Counter[Arm]] = defaultdict(Counter)
    for record in records:
        outcome = outcomes[record.key]
        counts[order.index(outcome.status), outcome.text][record.arm] += 1
    return tuple((text, tuple(own[arm] for arm in arms)) for (_, text), own in sorted(counts.items()))
