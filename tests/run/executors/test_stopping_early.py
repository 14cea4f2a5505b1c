from support.runs import plan_of, run
from support.worlds import BRIDGE

from vla_bench.run.executors import Means, make_executor
from vla_bench.run.stopping import Stopping

OTHER = "bridge_base/stack_the_green_block_on_the_yellow_block"
STUDY = {
    "tasks": (BRIDGE, OTHER), "policies": ("expert", "noop"), "episodes": 12,
    "statistics": {"stop": "decided"},
}  # fmt: skip


def test_a_study_that_has_decided_runs_no_more_and_decides_the_same_with_any_number_of_workers(tmp_path):
    plan = plan_of(**STUDY)
    alone = run(plan, tmp_path / "one")
    several = run(plan, tmp_path / "two", executor=make_executor("process", Means(2)))
    decided, again = Stopping(plan, alone), Stopping(plan, several)
    assert len(decided.decisions) == 1
    assert decided.decisions == again.decisions
    assert decided.decisions[0].better.policy == "expert"
    assert len(alone) + decided.saved == len(plan.items) == 48
    assert decided.saved >= 24
    assert 0 <= len(several) - len(alone) <= 4, "what was being played when it was decided"
    assert run(plan, tmp_path / "one") == alone, "nothing is needed any more"
