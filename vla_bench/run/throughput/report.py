"""What was measured, in words."""

from __future__ import annotations

from vla_bench.run.throughput.bench import Throughput
from vla_bench.run.throughput.choosing import why


def describe(found: Throughput) -> str:
    """A measurement for a terminal."""
    height, width = found.shown.image_px
    seen = (
        f"{len(found.shown.cameras)} pictures of {height} × {width}" if found.shown.cameras else "no pictures"
    )
    lines = [
        f"{found.task}, {found.policy} at {found.precision}, {seen}, "
        f"{found.chunk_executed} action(s) an answer, {found.cores} cores",
        "demand: observations a second, if answers took no time",
        *(
            f"  {each.workers:4} workers {each.requests_per_s:10.2f}   {each.ratio:5.2f} times the fewest"
            for each in found.demands.by_workers
        ),
        f"  medians of interleaved rounds; an episode begins in {1e3 * found.demands.start_s:.0f} ms",
    ]
    if found.supplies:
        times = f", {found.devices} of these" if found.devices > 1 else ""
        lines += [
            f"supply: answers a second, on {found.supplies[0].device}{times}",
            *(
                f"  batch {each.batch:4}   {each.requests_per_s:10.2f}   {1e3 * each.batch_s:8.1f} ms"
                for each in found.supplies
            ),
        ]
    else:
        lines.append("supply: the policy acts within the simulators' processes")
    return "\n".join([*lines, _choice(found), _lost(found)])


def _choice(found: Throughput) -> str:
    chosen = found.proposal
    flags = f"--workers {chosen.workers}"
    if chosen.supply_per_s is not None:
        flags += f" --batch {chosen.batch} --batch-wait {chosen.wait_s:.3g}"
    return (
        f"proposed: {flags}: {why(chosen)}\n"
        f"predicted: at most {chosen.requests_per_s:.1f} answers a second, "
        f"{found.episodes_per_h:.0f} episodes of {found.steps} steps an hour"
    )


def _lost(found: Throughput) -> str:
    free = found.overhead
    parts = ", ".join(f"{name} {100 * spent / free.wall_s:.1f} %" for name, spent in free.spent_s.items())
    errors = f" ({free.errors} errors: the times say nothing)" if free.errors else ""
    return (
        f"overhead of {free.episodes} episodes{errors}: {100 * free.share:.1f} % "
        f"({free.other_ms:.1f} ms an episode, {free.disk_ms:.1f} of them for the disk) "
        f"of {free.wall_s:.1f} s; {parts}; "
        f"before the first one {free.start_s:.1f} s"
    )
