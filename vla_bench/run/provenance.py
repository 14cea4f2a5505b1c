"""Where a run comes from: versions, commit, machine. Nothing heavy is imported to find out."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vla_bench
from vla_bench import catalog
from vla_bench.axes.certificates import certificate
from vla_bench.axes.variation import parse
from vla_bench.bddl import read_problem
from vla_bench.policy.cards import read_card
from vla_bench.run.latency import latency_source
from vla_bench.run.plan import Plan
from vla_bench.run.records import Assets, ExpertRate, LatencyUsed, RunHeader, Session
from vla_bench.run.records.header import PublishedRate
from vla_bench.types import StaleRule

# What factors that set a target in motion say that they set.
TARGETS_MOTION = "target's motion"
# Every distribution that changes pixels, physics or numbers.
DISTRIBUTIONS = (
    "accelerate", "av", "bitsandbytes", "gymnasium", "imageio", "imageio-ffmpeg", "llvmlite", "mujoco",
    "numba", "numpy", "peft", "pillow", "PyOpenGL", "robosuite", "safetensors", "scipy", "simplejpeg",
    "tokenizers", "torch", "torchao", "transformers",
)  # fmt: skip


def header_of(plan: Plan, session: Session) -> RunHeader:
    """The header of a run of `plan` that `session` begins."""
    return RunHeader(
        study_name=plan.study.name,
        study_hash=plan.study.hash,
        plan_hash=plan.hash,
        planned=len(plan.items),
        study=plan.study.model_dump(mode="json"),
        arms=plan.study.arms,
        sessions=(session,),
        certificates=_certificates(plan),
        published=_published(plan),
        latencies={arm.latency: _latency_used(arm.latency) for arm in plan.study.arms},
        stale=_stale(plan),
        periods_s=_periods_s(plan),
        moving=_moving(plan),
        references=_references(plan),
    )


def _certificates(plan: Plan) -> dict[str, ExpertRate]:
    """`task_id|variation` → how often the scripted expert solved it, where a certificate says so."""
    found: dict[str, ExpertRate] = {}
    for task_id, variation in dict.fromkeys((i.episode.task_id, i.episode.variation) for i in plan.items):
        known = certificate(catalog.task(task_id), variation)
        if known is not None:
            found[f"{task_id}|{variation}"] = ExpertRate(n=known.n, successes=known.solved)
    return found


def _latency_used(name: str) -> LatencyUsed:
    source = latency_source(name)
    if source is None:  # recorded when the run begins, and replayed from then on
        return LatencyUsed()
    median_ns = source.p50_ns()
    return LatencyUsed(
        deterministic=source.deterministic,
        content=source.content,
        median_ms=None if median_ns is None else median_ns / 1e6,
    )


def _stale(plan: Plan) -> dict[str, StaleRule]:
    """Suite → stale rule, of suites with an arm that does not wait."""
    names = {i.episode.task_id.partition("/")[0] for i in plan.items if i.arm.pacing != "blocking"}
    found = map(catalog.suite, sorted(names))
    return {suite.name: suite.stale for suite in found if suite.stale is not None}


def _periods_s(plan: Plan) -> dict[str, float]:
    """Suite → length of a policy step, of suites whose tasks agree in it."""
    found: dict[str, set[float]] = {}
    for task_id in dict.fromkeys(item.episode.task_id for item in plan.items):
        task = catalog.task(task_id)
        found.setdefault(task.suite, set()).add(task.policy_period_s)
    return {suite: next(iter(lengths)) for suite, lengths in found.items() if len(lengths) == 1}


def _moving(plan: Plan) -> tuple[str, ...]:
    """`task_id|variation` of those whose target moves by itself: the task's own, or set in motion."""
    places = dict.fromkeys((item.episode.task_id, item.episode.variation) for item in plan.items)
    return tuple(f"{task_id}|{variation}" for task_id, variation in places if _moves(task_id, variation))


def _moves(task_id: str, variation: str) -> bool:
    task = catalog.task(task_id)
    if task.engine is not None:  # in another simulator's tasks things move when they are pushed
        return False
    driven = any(TARGETS_MOTION in factor.sets for factor, _ in parse(variation))
    return driven or bool(read_problem(task.bddl).moving)


def _references(plan: Plan) -> dict[str, tuple[PublishedRate, ...]]:
    """Policy → the published results that its card names, on the suites of the plan."""
    suites = {item.episode.task_id.partition("/")[0] for item in plan.items}
    cards = {policy: read_card(policy) for policy in dict.fromkeys(arm.policy for arm in plan.study.arms)}
    found = {
        policy: tuple(
            PublishedRate(**number.model_dump()) for number in card.reference if number.suite in suites
        )
        for policy, card in cards.items()
    }
    return {policy: numbers for policy, numbers in found.items() if numbers}


def _published(plan: Plan) -> dict[str, str]:
    """Task id → the published task that it mirrors."""
    tasks = map(catalog.task, dict.fromkeys(item.episode.task_id for item in plan.items))
    return {task.id: task.published for task in tasks if task.published}


def describe_session(
    command: Sequence[str],
    *,
    device: str | None = None,
    gl_renderer: str | None = None,
    assets: Assets | None = None,
    fingerprint: str | None = None,
) -> Session:
    """Describe this process; `device` is where policies run, by default the processor."""
    commit, dirty = git_state()
    return Session(
        started_at=now(),
        command=tuple(command),
        git_commit=commit,
        git_dirty=dirty,
        versions=versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        device=device or processor_name(),
        gl_renderer=gl_renderer,
        assets=assets,
        fingerprint=fingerprint,
    )


def now() -> str:
    """The present, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of vla-bench and of those of `DISTRIBUTIONS` that are installed."""
    found = {"vla-bench": vla_bench.__version__}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that the package lives in, and whether tracked files differ from it.

    An installed package has none, even where its environment lies inside some other repository.
    """
    root = Path(vla_bench.__file__).parents[1]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    call = ["git", "-C", str(root), *arguments]
    return subprocess.run(call, check=True, capture_output=True, text=True, timeout=30).stdout


def device_used(names: Iterable[str]) -> dict[str, Any]:
    """Fields of a session that the device of its policies decides, given torch's names of devices.

    Empty where nothing computes on a GPU; what computes on one has loaded torch before.
    """
    graphics = sorted({name for name in names if name.startswith("cuda")})
    if not graphics:
        return {}
    import torch

    devices = dict.fromkeys(torch.cuda.get_device_name(name) for name in graphics)
    versions = {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return {"device": ", ".join(devices), "driver": driver_version(), "versions": versions}


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """Version of the GPU's kernel module, as it says it; None without one."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(\.\d+)+)", path.read_text())
    except OSError:
        return None
    return found[1] if found else None


def processor_name() -> str:
    """Model name of the processor, as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
