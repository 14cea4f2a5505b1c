"""Episodes that are watched while they are played: filmed, recorded step by step, or both."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.run.conventions import policy_seed
from vla_bench.run.plan import Plan, WorkItem
from vla_bench.run.rollout import Rollout, play
from vla_bench.run.video import Video

if TYPE_CHECKING:
    from vla_bench.run.recorder import Recorder
    from vla_bench.run.stage import Job


def watched_keys(plan: Plan, wanted: str | int) -> frozenset[str]:
    """Keys of the items that are watched if `wanted` says: `none`, `failures`, `all`, the first N of an arm.

    They are the plan's, so that an interrupted run goes on with the same ones.
    """
    most = {"none": 0, "failures": len(plan.items), "all": len(plan.items)}.get(str(wanted), wanted)
    found: dict[str, list[str]] = {}
    for item in plan.items:
        found.setdefault(item.arm.key, []).append(item.key)
    return frozenset(key for keys in found.values() for key in keys[: int(most)])


def play_watched(job: Job, item: WorkItem, run: Rollout) -> dict[str, Any]:
    """Play an item, and keep what the study wants of it; of successes nothing where it wants failures.

    What ended in an error is filmed, but not recorded: it is played again.

    Raises:
        VlaBenchError: It could not be written.
    """
    wanted = job.study.outputs
    with contextlib.ExitStack() as watching:
        video = watching.enter_context(_video(job, item, run)) if item.key in job.filmed else None
        recorder = watching.enter_context(_recorder(job, item, run)) if item.key in job.recorded else None
        outcome = play(run, item.episode, item.arm.pacing, policy_seed(item.episode))
        status = outcome["status"]
        if recorder is not None and (
            status == "failure" or (status == "success" and wanted.record != "failures")
        ):
            recorder.keep()
        if video is not None and (status != "success" or wanted.video != "failures"):
            kept = video.keep()
            outcome["video"] = None if kept is None else str(kept.relative_to(job.folder))
    return outcome


def put_together(plan: Plan, folder: Path, fingerprint: str | None) -> None:
    """Make data sets of what was recorded, unless another process is at it.

    Raises:
        VlaBenchError: They cannot be written, or were recorded with something else.
    """
    if plan.study.outputs.record == "none":
        return
    from vla_bench.lerobot.writer import BusyError
    from vla_bench.run.spool import assemble, write_steps

    made_with = {"study_hash": plan.study.hash, "fingerprint": fingerprint}
    with contextlib.suppress(BusyError):
        assemble(folder, [item.key for item in plan.items], made_with)
        write_steps(folder)


def _video(job: Job, item: WorkItem, run: Rollout) -> Video:
    name = f"{item.episode.key}#{item.arm.policy}-{item.arm.precision}-{item.key[:6]}"
    video = Video(job.folder / "videos" / f"{file_name(name)}.mp4", run.simulation)
    run.on_step = video.add_frame
    return video


def _recorder(job: Job, item: WorkItem, run: Rollout) -> Recorder:
    from vla_bench.run.recorder import Recorder
    from vla_bench.run.spool import About

    suite = item.episode.task_id.partition("/")[0]
    return Recorder(job.folder, run, About(item.key, suite, item.episode.task_id, ""))


def file_name(text: str) -> str:
    """A text as the name of a file."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text)
