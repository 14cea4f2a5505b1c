"""Several results folders as one run: the same episodes of other folders are pairs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vla_bench.account.assembly import assemble
from vla_bench.account.documents import write_documents
from vla_bench.account.provenance import error_lines, origin_lines
from vla_bench.account.report import Report
from vla_bench.errors import VlaBenchError
from vla_bench.run.records import Decided, Record, Run, Session, incomparable, read_run
from vla_bench.types import Arm, Episode


def compare(
    folders: Sequence[str | Path],
    *,
    despite_differences: bool = False,
    by_folder: bool = False,
    out: Path | None = None,
) -> Report:
    """Compare the runs of several folders; `out` is a folder to write to, which need not exist.

    Args:
        folders: At least two results folders.
        despite_differences: Compare them although fingerprints, versions, weights or assets differ.
        by_folder: Tell the policies of the folders apart by the names of the folders.
        out: Where tables and figures go; None writes nothing.

    Raises:
        VlaBenchError: A folder holds no run; what is around the runs differs; the same arm ran the same
            episode in two.
    """
    runs = [read_run(folder) for folder in folders]
    names = _names([run.folder for run in runs])
    if by_folder:
        runs = [_labelled(run, name) for run, name in zip(runs, names, strict=True)]
    against = incomparable([run.header for run in runs])
    if against and not despite_differences:
        raise VlaBenchError(
            f"these runs do not belong into one table: {'; '.join(against)}; --despite-differences compares "
            "them all the same"
        )
    _refuse_clashes(names, runs)
    merged = _merged(runs)
    made = assemble(merged)
    header = tuple(_header(names, runs, against, merged))
    title = f"Comparison of {', '.join(names)}"
    files = write_documents(out, title, header, made) if out else []
    return Report(title, out, header, made, merged, tuple(files))


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the folders' paths that tell them apart.

    Raises:
        VlaBenchError: The same folder is given twice, or only one.
    """
    resolved = [folder.resolve() for folder in folders]
    twice = [str(folder) for folder, count in Counter(resolved).items() if count > 1]
    if twice or len(resolved) < 2:
        told = f"{twice[0]} is given more than once" if twice else f"{len(resolved)} is given"
        raise VlaBenchError(f"compare takes at least two different results folders; {told}")
    for parts in range(1, max(len(folder.parts) for folder in resolved) + 1):
        names = ["/".join(folder.parts[-parts:]) for folder in resolved]
        if len(set(names)) == len(names):
            return names
    return list(map(str, resolved))


def _labelled(run: Run, name: str) -> Run:
    """The same run with its policies called after the folder."""

    def called(policy: str) -> str:
        return f"{policy} [{name}]"

    def session_of(session: Session) -> Session:
        changes = {
            "loaded": tuple(own.model_copy(update={"policy": called(own.policy)}) for own in session.loaded),
            "checkpoints": {called(policy): files for policy, files in session.checkpoints.items()},
        }
        return session.model_copy(update=changes)

    def arm_of(arm: Arm) -> Arm:
        return dataclasses.replace(arm, policy=called(arm.policy))

    def decided_of(one: Decided) -> Decided:
        return one.model_copy(update={"better": arm_of(one.better), "worse": arm_of(one.worse)})

    changes = {
        "arms": tuple(map(arm_of, run.header.arms)),
        "references": {called(policy): own for policy, own in run.header.references.items()},
        "sessions": tuple(map(session_of, run.header.sessions)),
        "decided": tuple(map(decided_of, run.header.decided)),
        "surplus": tuple(f"{name}: {key}" for key in run.header.surplus),
    }
    header = run.header.model_copy(update=changes)
    records = tuple(
        dataclasses.replace(record, policy=called(record.policy), key=f"{name}: {record.key}")
        for record in run.records
    )
    return dataclasses.replace(run, header=header, records=records)


def _refuse_clashes(names: Sequence[str], runs: Sequence[Run]) -> None:
    """Two folders that hold the same arm on the same episode: which of the two would count?"""
    seen: dict[tuple[Arm, Episode], str] = {}
    for name, run in zip(names, runs, strict=True):
        for record in run.records:
            other = seen.setdefault((record.arm, record.episode), name)
            if other != name:
                raise VlaBenchError(
                    f"{other} and {name} both hold {record.arm.key} on {record.episode.key}; --by-folder "
                    "takes the arms of each folder for different ones"
                )


def _merged(runs: Sequence[Run]) -> Run:
    """One run with the records of all; what headers say of suites, tasks and policies is joined."""
    first = runs[0].header
    suites = dict.fromkeys(suite for run in runs for suite in run.header.study.get("suites", ()))
    joined = {
        name: {key: value for run in runs for key, value in getattr(run.header, name).items()}
        for name in ("certificates", "published", "latencies", "stale", "periods_s", "references")
    }
    header = first.model_copy(
        update={
            **joined,
            "study": {**first.study, "suites": list(suites)},
            "planned": sum(run.header.planned for run in runs),
            "arms": tuple(dict.fromkeys(arm for run in runs for arm in run.header.arms)),
            "sessions": tuple(session for run in runs for session in run.header.sessions),
            "decided": tuple(one for run in runs for one in run.header.decided),
            "surplus": tuple(key for run in runs for key in run.header.surplus),
        }
    )
    records = sorted(
        (record for run in runs for record in run.records),
        key=lambda r: (r.suite, r.task_index, r.stem, r.variation, r.seed or 0, r.init_state or 0),
    )
    problems = tuple(problem for run in runs for problem in run.problems)
    return Run(runs[0].folder, header, tuple(records), problems, sum(run.superseded for run in runs))


def _header(names: Sequence[str], runs: Sequence[Run], against: Sequence[str], merged: Run) -> Iterator[str]:
    """Where each folder comes from, and in what they differ that a comparison should know of."""
    for name, run in zip(names, runs, strict=True):
        for line in origin_lines(run):
            yield f"{name}: {line}"
    for sentence in against:
        yield f"NOT OF ONE KIND: {sentence}."
    levels = {float(run.header.study["statistics"]["confidence"]) for run in runs}
    if len(levels) > 1:
        told = " and ".join(f"{100 * level:g} %" for level in sorted(levels))
        yield f"The studies ask for {told} confidence; that of {names[0]} is used."
    if len({str(run.header.study.get("crossed")) for run in runs}) > 1:
        told = f"that of {names[0]} is used" if merged.header.study.get("crossed") else "none is used"
        yield f"The studies cross weights and latencies differently ([crossed]); {told}."
    yield from _budgets(merged.records)
    yield from _pairing(names, runs)
    yield from error_lines(merged.records)


def _budgets(records: Iterable[Record]) -> Iterator[str]:
    found: dict[str, set[str]] = {}
    for record in records:
        found.setdefault(record.task_id, set()).add(record.budget)
    different = {task: budgets for task, budgets in found.items() if len(budgets) > 1}
    if different:
        task, budgets = next(iter(different.items()))
        yield (
            f"OTHER BUDGETS: {len(different)} tasks were run under several budgets, for example {task} under "
            f"{' and '.join(sorted(budgets))}: arms had unequally long."
        )


def _pairing(names: Sequence[str], runs: Sequence[Run]) -> Iterator[str]:
    """How many episodes every folder has, and how many are in all of them."""
    episodes = [{record.episode for record in run.records} for run in runs]
    shared = len(set.intersection(*episodes))
    counts = ", ".join(f"{len(own)} in {name}" for name, own in zip(names, episodes, strict=True))
    if shared:
        yield f"{shared} episodes are in all folders ({counts}): there, arms of different folders are pairs."
    else:
        yield (
            f"No episode is in all folders ({counts}): arms of different folders that share none are not "
            "paired, and tests of independent samples stand in."
        )
