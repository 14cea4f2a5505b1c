"""What is random in a policy belongs to the episode: the same at every precision, latency and pacing."""

import pytest
from support.runs import plan_of, run
from support.worlds import BRIDGE, write_policy

from vla_bench import catalog
from vla_bench.run.conventions import policy_seed
from vla_bench.types import Episode

NOISY = """\
from vla_bench import seeding
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

SEEN = []


class Made:
    spec = PolicySpec()

    def __init__(self, card, precision):
        self._precision = precision

    def reset(self, instruction, seed):
        self._stream = seeding.generator("policy", "noisy", seed)
        self._first = True
        self._seed = seed

    def act(self, observations):
        action = self._stream.uniform(-1, 1, size=(1, 7))
        if self._first:
            SEEN.append((self._precision, self._seed, action.tobytes()))
        self._first = False
        return ActionChunk(action)
"""


@pytest.fixture
def noisy(tmp_path, monkeypatch):
    write_policy(tmp_path / "own", "noisy", NOISY, precisions=["fp32", "bf16"])
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path / "own"))
    monkeypatch.syspath_prepend(str(tmp_path / "own"))


def test_a_policy_draws_the_same_noise_in_an_episode_at_every_precision_latency_and_pacing(noisy, tmp_path):
    plan = plan_of(
        tasks=(BRIDGE,), policies=("noisy",), precisions=("fp32", "bf16"), pacings=("blocking", "realtime"),
        latencies=("zero", "constant:100ms"), episodes=2, budget={"steps": 2},
    )  # fmt: skip
    records = run(plan, tmp_path / "run")
    assert {record.status for record in records} == {"failure"}
    import noisy_policy  # type: ignore[import-not-found]

    seen = noisy_policy.SEEN[-len(plan.items) :]
    assert len({precision for precision, *_ in seen}) == 2
    for episode in (Episode(BRIDGE, seed=0), Episode(BRIDGE, seed=1)):
        noise = {bytes_ for _, seed, bytes_ in seen if seed == policy_seed(episode)}
        assert len(noise) == 1, "one noise an episode, whatever the arm"
    assert len({seed for _, seed, _ in seen}) == 2
