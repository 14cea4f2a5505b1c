"""What is said of places is true of the episode, told apart from how the texts are made: by the picture."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.varied import episode, varied
from support.worlds import needs_libero

from vla_bench import catalog
from vla_bench.axes.factors import factors
from vla_bench.axes.lexicon import lexicon
from vla_bench.axes.relations import Statement, Survey
from vla_bench.axes.requirements import refusal

NAME = "language.relation"
OPPOSITE = {"left": "right", "right": "left", "front": "behind", "behind": "front"}


def built_in_tasks():
    tasks = [
        catalog.suite(s).task(stem) for s in ("bridge", "bridge_base") for stem in catalog.suite(s).stems()
    ]
    return [task.id for task in tasks if refusal(factors()[NAME], task) is None]


def position(simulation, name):
    return simulation.current.data.body(simulation.current.scene.items[name].body).xpos


def in_picture(simulation, point):
    """(column, distance from the camera along the floor) of a point."""
    camera = simulation.current.data.camera("agentview")
    mat = camera.xmat.reshape(3, 3)
    x, _, z = mat.T @ (point - camera.xpos)
    return x / -z, -(point - camera.xpos)[:2] @ mat[:2, 2] / np.linalg.norm(mat[:2, 2])


def from_robot(simulation, name):
    return np.hypot(*(position(simulation, name) - simulation.current.scene.place.robot_pos)[:2])


def looks_true(simulation, relation, anchor, name, others, beyond=0.0):
    """By the origins of things; `beyond` is the share of the anchor's radius that must be passed."""
    if relation in ("nearest", "farthest"):
        nearest = min if relation == "nearest" else max
        return name == nearest([name, *others], key=lambda other: from_robot(simulation, other))
    if name == anchor:
        return False
    mat = simulation.current.data.camera("agentview").xmat.reshape(3, 3)
    right, radius = mat[:, 0], beyond * simulation.current.scene.items[anchor].radius
    away = -np.array([*mat[:2, 2], 0.0]) / np.linalg.norm(mat[:2, 2])
    axis, side = {"left": (0, -right), "right": (0, right), "front": (1, -away), "behind": (1, away)}[
        relation
    ]
    edge = in_picture(simulation, position(simulation, anchor) + radius * side)[axis]
    own = in_picture(simulation, position(simulation, name))[axis]
    return own > edge if relation in ("right", "behind") else own < edge


def check(simulation, level):
    """The words are those of what was drawn, and what was drawn holds, of one thing alone where it must."""
    drawn, task = simulation.drawn[NAME], simulation.task
    name, said = drawn["object"], simulation.observe().instruction
    assert drawn["instruction"] == said != task.instruction
    assert simulation.current.goal == simulation.current.scene.problem.goal
    movable = [n for n, item in simulation.current.scene.items.items() if item.movable]
    assert drawn["relations"]
    for relation, anchor in drawn["relations"]:
        others = [other for other in movable if other != name]
        assert looks_true(simulation, relation, anchor, name, others), (said, relation, anchor)
    kinds = {**simulation.current.scene.problem.objects, **simulation.current.scene.problem.fixtures}
    named = lexicon().nouns_in(said)
    for _, anchor in drawn["relations"]:
        assert not anchor or lexicon().noun_of(kinds[anchor]) in named
    # the origin of a fixture may lie beside it
    if level >= 3 and all(anchor in ("", *movable) for _, anchor in drawn["relations"]):
        assert "the object that is" in said
        for other in movable:
            rest = [n for n in movable if n != other]
            assert other == name or not all(
                looks_true(simulation, relation, anchor, other, rest, beyond=1.0)
                for relation, anchor in drawn["relations"]
            ), (said, other)


@pytest.mark.parametrize("task_id", built_in_tasks())
def test_what_is_said_is_true_of_the_start_and_of_nothing_else(task_id):
    simulation = varied(task_id)
    for seed in range(8):
        for level in (1, 2, 3, 4, 5):
            simulation.reset(episode(task_id, f"{NAME}@{level}", seed))
            check(simulation, level)


@needs_libero
@pytest.mark.parametrize("task_id", ["libero_object/0", "libero_goal/8", "libero_90/18"])
def test_what_is_said_is_true_of_liberos_starts(task_id):
    task_id = catalog.task(task_id).id
    simulation = varied(task_id)
    for start in range(4):
        for level in (1, 3, 5):
            simulation.reset(episode(task_id, f"{NAME}@{level}", start))
            check(simulation, level)


@pytest.mark.parametrize("also", ["motion.object_position@5", "visual.distractors@4", "visual.camera@5"])
def test_what_is_said_is_true_of_the_start_that_other_factors_made(also):
    task_id = "bridge_base/lift_the_carrot"
    simulation, texts = varied(task_id), set()
    for seed in range(6):
        simulation.reset(episode(task_id, f"{also}+{NAME}@3", seed))
        check(simulation, 3)
        texts.add(simulation.instruction)
    assert len(texts) > 1


def test_another_level_names_less():
    task_id = "bridge_base/put_the_carrot_on_the_plate"
    simulation, said = varied(task_id), []
    for level in range(1, 6):
        simulation.reset(episode(task_id, f"{NAME}@{level}", 2))
        said.append(simulation.instruction)
    assert "carrot" in said[0]
    assert lexicon().nouns["carrot"].kind in said[1]
    assert all("carrot" not in text and text.startswith("put the object that is") for text in said[2:])
    assert lexicon().nouns["plate"].kind in said[3]
    assert lexicon().nouns["plate"].looks in said[4]
    assert all(text.endswith(" on the plate") for text in said)


def test_more_than_one_thing_is_said_as_a_plural():
    words = lexicon()
    assert words.nouns["purple grapes"].plural
    assert not any(noun.plural for name, noun in words.nouns.items() if not name.endswith("s"))


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("bridge_base/lift_the_mushroom_from_the_turntable", "its target moves already"),
        ("bridge_base/take_the_mushroom_out_of_the_pot", "without saying where it is"),
        ("bridge/cup_from_counter_into_sink", "without saying where it is"),
    ],
)
def test_a_task_whose_words_leave_no_room_is_refused(task, why):
    assert why in (refusal(factors()[NAME], catalog.task(task)) or "")


PLACE = st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0.01, 0.1), st.floats(0.01, 0.1))


def scene(places):
    names = [f"thing{number}" for number in range(len(places))]
    rows = dict(zip(names, np.array(places), strict=True))
    return Survey(
        {n: row[:2] for n, row in rows.items()},
        {n: row[2:] for n, row in rows.items()},
        {n: float(np.linalg.norm(row[:2] - [0, 1])) for n, row in rows.items()},
        tuple(names),
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([(0, 0, 0.05, 0.05), (0.2, 0.01, 0.05, 0.05)])
@given(st.lists(PLACE, min_size=2, max_size=5))
def test_things_that_stand_clear_of_each_other_can_always_be_told_apart(places):
    seen = scene(places)
    clear = all(
        np.any(np.abs(seen.centre[a] - seen.centre[b]) - seen.half[b] > 0.011)
        for a in seen.candidates
        for b in seen.candidates
        if a != b
    )
    for name in seen.candidates:
        sayable = [Statement(r, other) for other in seen.candidates if other != name for r in OPPOSITE]
        found = seen.describing(name, sayable, others=seen.candidates)
        assert found or not clear
        for together in found:
            true_of = [n for n in seen.candidates if all(seen.holds(s, n, clearly=False) for s in together)]
            assert true_of == [name]
            for s in together:
                assert not seen.holds(Statement(OPPOSITE[s.relation], s.anchor), name, clearly=False)
