"""Whether a results folder is what its study says, and whether its episodes come out the same again."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_bench import seeding
from vla_bench.config import parse
from vla_bench.errors import VlaBenchError
from vla_bench.run.plan import Plan, make_plan
from vla_bench.run.provenance import header_of
from vla_bench.run.records import Record, RunHeader, Session, open_run, read_run
from vla_bench.run.records.audit import Audit, audit, differences
from vla_bench.run.records.header import HEADER_FILE
from vla_bench.run.runner import OnRecord, run_plan
from vla_bench.run.session import begin_session
from vla_bench.run.study import Outputs, Study


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a check.

    Attributes:
        lines: Lines whose checksum was recomputed.
        replayed: Episodes that were played again; `same` of them came out the same.
        findings: Sentences on what is wrong or differs.
        remarks: Sentences on what must be known to judge.
    """

    lines: int
    replayed: int
    same: int
    findings: tuple[str, ...]
    remarks: tuple[str, ...]


def verify(
    folder: Path, *, sample: int, command: Sequence[str], on_record: OnRecord = lambda record: None
) -> Verdict:
    """Check lines, header and plan of a results folder, and play some of its episodes again.

    Nothing is written into the folder.

    Args:
        folder: A results folder, finished or not.
        sample: How many episodes are played again, at most; which ones depends on the study alone.
        command: The command line, for the session that plays.
        on_record: Called with the new record of each.

    Raises:
        MissingDataError: The folder holds no run.
        VlaBenchError: Its header cannot be read; or no policy can be run here.
    """
    checked = audit(folder)
    findings, remarks = list(checked.findings), list(checked.remarks)
    plan = _plan(checked.header, folder, findings)
    if plan is not None:
        _compare_with_plan(plan, checked, findings, remarks)
    replayed = same = 0
    if plan is not None and (chosen := _sample(plan, checked, sample, remarks)):
        session = begin_session(plan, command)
        remarks += _fingerprints(session, chosen)
        for record, differing in _replay(plan, folder, chosen, session, on_record):
            replayed, same = replayed + 1, same + (not differing)
            findings += [f"{_name(record)} came out differently: {'; '.join(differing)}"] if differing else []
    return Verdict(checked.lines, replayed, same, tuple(findings), tuple(remarks))


def _plan(header: RunHeader, folder: Path, findings: list[str]) -> Plan | None:
    """The plan that the header's study makes here and now, if it is the one of the run."""
    try:
        study = parse(Study, header.study, folder / HEADER_FILE)
        if study.hash != header.study_hash:
            findings.append(
                f"the study in {HEADER_FILE} has hash {study.hash[:8]}, the run {header.study_hash[:8]}: one "
                "of them was changed"
            )
            return None
        plan = make_plan(study)
    except VlaBenchError as error:
        findings.append(f"the study in {HEADER_FILE} cannot be planned here: {error}")
        return None
    if plan.hash != header.plan_hash:
        findings.append(
            f"the study's plan is {plan.hash[:8]} here and was {header.plan_hash[:8]}: tasks, budgets or "
            "lengths of a suite have changed since, or the header has; nothing can be played again"
        )
        return None
    return plan


def _compare_with_plan(plan: Plan, checked: Audit, findings: list[str], remarks: list[str]) -> None:
    planned = {item.key: item for item in plan.items}
    found = {record.key: record for record in checked.records}
    if foreign := [record for key, record in found.items() if key not in planned]:
        findings.append(f"{len(foreign)} records are of no planned episode, for example {_name(foreign[0])}")
    for key, record in found.items():
        item = planned.get(key)
        if item and (item.arm, item.episode) != (record.arm, record.episode):
            findings.append(f"{_name(record)} has the key of {item.episode.key} with {item.arm.key}")
    if missing := len(planned.keys() - found.keys()):
        stopped = plan.study.statistics.stop != "never"
        where, why = (remarks, "; the study may leave some out") if stopped else (findings, "")
        where.append(f"{missing} of {len(planned)} planned episodes have no record{why}")
    if errors := sum(record.status == "error" for record in checked.records):
        remarks.append(f"{errors} episodes ended in an error; the same run command plays them again")


def _sample(plan: Plan, checked: Audit, most: int, remarks: list[str]) -> list[Record]:
    """Records of episodes that can be played again, in the order of the plan."""
    live = {name for name, used in checked.header.latencies.items() if not used.deterministic}
    if live:
        remarks.append(
            f"episodes with latency {', '.join(sorted(live))} cannot come out the same, and are not played"
        )
    found = {record.key: record for record in checked.records}
    able = [
        found[item.key]
        for item in plan.items
        if item.key in found and found[item.key].status != "error" and item.arm.latency not in live
    ]
    draw = seeding.generator("statistics", "verify", plan.study.hash)
    kept = draw.choice(len(able), size=min(most, len(able)), replace=False)
    return [able[index] for index in sorted(kept.tolist())]


def _fingerprints(here: Session, records: Sequence[Record]) -> list[str]:
    """What differs between this machine and those that played the records."""
    marks = sorted({record.fingerprint for record in records if record.fingerprint})
    other = [mark for mark in marks if mark != here.fingerprint]
    if not other:
        return []
    return [
        f"this machine's fingerprint is {here.fingerprint}, the run's {', '.join(other)}: physics or "
        "pictures differ, and a replay cannot be expected to be equal"
    ]


def _replay(
    plan: Plan, folder: Path, records: Sequence[Record], session: Session, on_record: OnRecord
) -> list[tuple[Record, list[str]]]:
    """Play the records' items as a run of their own, and compare."""
    keys = {record.key for record in records}
    study = plan.study.model_copy(update={"outputs": Outputs()})
    again = dataclasses.replace(plan, study=study, items=tuple(i for i in plan.items if i.key in keys))
    with tempfile.TemporaryDirectory() as room:
        there, header = Path(room) / "run", header_of(again, session)
        open_run(there, header)
        if (folder / "latencies").is_dir():  # those that were measured for the run
            shutil.copytree(folder / "latencies", there / "latencies")
        run_plan(again, there, header, on_record)
        played = {record.key: record for record in read_run(there).records}
    return [(record, differences(record, played[record.key])) for record in records]


def _name(record: Record) -> str:
    return f"{record.episode.key} with {record.arm.key}"
