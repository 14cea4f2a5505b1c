import numpy as np
import pytest

from vla_bench.policy.scripted.expert import SKILLS
from vla_bench.policy.scripted.joints import (
    away_end,
    direction,
    drive_for,
    moved,
    opened_share,
    rest_end,
)
from vla_bench.policy.scripted.motion import Pose
from vla_bench.policy.scripted.planning import agenda as order
from vla_bench.types import JointState, Predicate, RegionState

CUBE = [((0, 0, 0.02), (0.02, 0.02, 0.02))]
PUT = Predicate("in", ("bowl", "inside"))
SHUT = Predicate("close", ("inside",))
TAKE_OUT = Predicate("outof", ("bowl", "inside"))


def agenda(state):
    """What the expert's skills are asked for, first things first."""
    return order(state, SKILLS)


@pytest.fixture
def kitchen(make_solid, make_state, make_drawer):
    def make(qpos, goal, satisfied=None):
        cabinet = make_solid(
            "cabinet", CUBE, movable=False, joints={"slide": make_drawer(qpos)}, links=("drawer",)
        )
        inside = RegionState("inside", np.zeros(3), np.eye(3), np.full(3, 0.1), "cabinet", ("slide",))
        things = [make_solid(name, CUBE) for name in ("bowl", "plate")]
        return make_state(cabinet, *things, goal=goal, satisfied=satisfied, regions=[inside])

    return make


def test_a_drawer_is_opened_before_something_goes_in_and_shut_afterwards(kitchen):
    assert agenda(kitchen(0.0, [SHUT, PUT]))[0] == Predicate("open", ("inside",))
    assert agenda(kitchen(-0.155, [SHUT, PUT]))[0] == PUT
    assert agenda(kitchen(-0.155, [SHUT, PUT], [False, True]))[0] == SHUT
    assert agenda(kitchen(0.005, [SHUT, PUT], [True, True])) == []


def test_a_drawer_is_opened_before_something_comes_out_and_shut_afterwards(kitchen):
    assert agenda(kitchen(0.0, [SHUT, TAKE_OUT], [True, False]))[0] == Predicate("open", ("inside",))
    assert agenda(kitchen(-0.155, [SHUT, TAKE_OUT]))[0] == TAKE_OUT
    assert agenda(kitchen(-0.155, [SHUT, TAKE_OUT], [False, True]))[0] == SHUT


@pytest.mark.parametrize("name", ["held", "lifted"])
def test_what_keeps_the_hand_comes_last_and_what_shall_stand_first(kitchen, name):
    keep, stand = Predicate(name, ("plate",)), Predicate("upright", ("plate",))
    assert agenda(kitchen(-0.155, [keep, SHUT, PUT, stand])) == [stand, PUT, SHUT, keep]


def test_literals_without_a_skill_are_left_out(kitchen):
    assert agenda(kitchen(-0.155, [Predicate("up", ("bowl",)), PUT])) == [PUT]


def test_joints_that_nothing_is_put_into_come_first(kitchen):
    beside = Predicate("on", ("bowl", "plate"))
    assert agenda(kitchen(-0.155, [beside, SHUT]))[0] == SHUT


def test_what_carries_comes_before_what_is_carried(kitchen):
    stacked, carried = Predicate("on", ("bowl", "plate")), Predicate("in", ("plate", "inside"))
    state = kitchen(-0.155, [stacked, carried])
    assert agenda(state)[0] == carried


def test_circular_goals_still_give_something_to_do(kitchen):
    goal = [Predicate("on", ("bowl", "plate")), Predicate("on", ("plate", "bowl"))]
    assert agenda(kitchen(0.0, goal))[0] in goal


def test_drive_goes_to_the_limit_that_the_literal_wants(kitchen):
    opening = drive_for(kitchen(0.0, []), Predicate("open", ("inside",)))
    shutting = drive_for(kitchen(-0.1, []), SHUT)
    assert opening is not None
    assert shutting is not None
    assert (opening.target, shutting.target) == (-0.16, 0.01)
    assert drive_for(kitchen(-0.159, []), Predicate("open", ("inside",))) is None
    assert drive_for(kitchen(0.0, []), Predicate("open", ("bowl",))) is None


def test_share_runs_from_the_end_near_zero_to_the_far_one(make_drawer):
    joint = make_drawer(-0.16)
    assert (rest_end(joint), away_end(joint)) == (0.01, -0.16)
    assert opened_share(joint) == 1.0
    assert opened_share(make_drawer(0.01)) == 0.0


def test_a_point_of_a_door_moves_on_a_circle_along_its_direction():
    hinge = JointState(
        "hinge", 0.0, (-2.0, 0.0), np.array([0.1, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), "door"
    )
    pose = Pose(np.array([0.4, 0.0, 0.2]), np.eye(3))
    swung = moved(pose, hinge, -0.01)
    assert np.linalg.norm(swung.pos - (0.1, 0.0, 0.2)) == pytest.approx(0.3)
    way = direction(pose.pos[None], hinge, -1.0)[0]
    assert (swung.pos - pose.pos) @ way == pytest.approx(0.003, rel=1e-3)
    np.testing.assert_allclose(moved(swung, hinge, 0.01).mat, pose.mat, atol=1e-12)
