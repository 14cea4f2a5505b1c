"""Any record that can be made, for tests of laws that hold for all of them."""

from __future__ import annotations

from hypothesis import strategies as st

from support.records import make_record
from vla_bench.run.records import ErrorInfo, Inferences, Record

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A record with values of every kind."""
    status = draw(st.sampled_from(["success", "failure", "error"]))
    calls = draw(st.integers(0, 4))
    column = st.just(()) | st.tuples(*[FINITE] * calls)
    fields = {
        "instruction": draw(TEXT), "variation": draw(TEXT),
        "drawn": draw(st.dictionaries(TEXT, JSON, max_size=3)),
        "score": draw(FINITE), "stages": tuple(draw(st.lists(TEXT, max_size=3))),
        "steps": draw(st.integers(0, 10**6)), "wall_s": draw(FINITE),
        "jerk_m_s3": draw(st.none() | FINITE),
        "task_axis": draw(st.sampled_from([None, "visual", "language"])),
        "peak_device_memory_bytes": draw(st.none() | st.integers(0, 2**63)),
        "inferences": Inferences(*[draw(column) for _ in range(5)]),
    }  # fmt: skip
    if status == "error":
        fields["error"] = ErrorInfo(draw(TEXT), draw(TEXT), draw(TEXT))
    return make_record(status, policy=draw(TEXT), **fields)
