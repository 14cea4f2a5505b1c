"""What a run must know of its machine before it begins: fingerprint, graphics, state of the assets."""

from __future__ import annotations

from collections.abc import Sequence

from vla_bench import catalog
from vla_bench.policy.cards import read_card
from vla_bench.run.plan import Plan
from vla_bench.run.provenance import describe_session
from vla_bench.run.records import Assets, Session


def begin_session(plan: Plan, command: Sequence[str]) -> Session:
    """Describe this machine for a run of `plan`; draws a picture only if something will be looked at.

    Raises:
        MissingDataError: A suite's data is not there.
        MissingCapabilityError: Pictures are needed and nothing draws here.
    """
    from vla_bench.sim import fingerprint

    views = 2 if _draws(plan) else 0
    taken = fingerprint.take(views=views)
    return describe_session(
        command,
        gl_renderer=taken.gl_renderer,
        assets=_assets(plan),
        fingerprint=str(taken),
    )


def _draws(plan: Plan) -> bool:
    """Whether a policy of the plan looks, or films are wanted."""
    looks = any(not read_card(arm.policy).blind for arm in plan.study.arms)
    outputs = plan.study.outputs
    return looks or any(wanted not in ("none", 0) for wanted in (outputs.video, outputs.record))


def _assets(plan: Plan) -> Assets | None:
    suites = {item.episode.task_id.partition("/")[0] for item in plan.items}
    if not any(catalog.suite(name).needs_libero for name in suites):
        return None
    from vla_bench.sim.assets import libero_status

    status = libero_status(catalog.libero_root())
    return Assets(stand_ins=status.standins + status.altered, missing=status.missing)
