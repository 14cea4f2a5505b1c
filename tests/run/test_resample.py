"""Episodes beyond a suite's stored initial states, for real."""

from support.runs import plan_of, run
from support.worlds import needs_libero


@needs_libero
def test_an_episode_beyond_the_stored_states_is_a_fresh_reset_and_its_record_says_which(tmp_path):
    keys = {"tasks": ("libero_object/1",), "policies": ("noop",), "budget": {"steps": 1}, "resample": True}
    records = run(plan_of(**keys, first_episode=49, episodes=3), tmp_path / "run")
    assert {(record.init_state, record.seed) for record in records} == {(49, None), (None, 50), (None, 51)}
    assert [record.status for record in records] == ["failure"] * 3
