"""Episodes for choosing are none of those that are reported."""

from __future__ import annotations

import pytest
from support.runs import plan_of, run
from support.worlds import BRIDGE, write_policy

from vla_bench import catalog
from vla_bench.run.plan import PlanError

LOOKING = """\
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

SEEN = []


class Made:
    spec = PolicySpec(privileged=True)

    def __init__(self, card, precision):
        pass

    def reset(self, instruction, seed):
        pass

    def act(self, observations):
        entities = observations[-1].state.entities
        SEEN.append(tuple(entities[name].pos.round(6).tobytes() for name in sorted(entities)))
        return ActionChunk(np.zeros((1, 7)))
"""


def test_select_draws_other_scenes_than_eval_from_the_same_seed_and_its_records_stay_apart(
    tmp_path, monkeypatch
):
    write_policy(tmp_path / "own", "looking", LOOKING, privileged=True)
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path / "own"))
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    keys = {"tasks": (BRIDGE,), "policies": ("looking",), "episodes": 1, "budget": {"steps": 1}}
    scenes, items = [], []
    for number, namespace in enumerate(("eval", "select", "select")):
        plan = plan_of(**keys, namespace=namespace)
        items.append(plan.items[0].key)
        run(plan, tmp_path / str(number))
        import looking_policy  # type: ignore[import-not-found]

        scenes.append(looking_policy.SEEN[-1])
    assert scenes[0] != scenes[1] == scenes[2]
    assert items[0] != items[1] == items[2]


def test_stored_initial_states_cannot_be_chosen_on():
    with pytest.raises(PlanError, match=r"libero_spatial.*belong to evaluations"):
        plan_of(suites=("libero_spatial",), policies=("noop",), namespace="select")
