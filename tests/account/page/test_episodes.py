"""Records as rows of the page."""

from support.records import make_record, write_run

from vla_bench.account.page.episodes import ERRORS, GROUP_ROWS, KINDS, list_episodes
from vla_bench.run.records import ErrorInfo, read_run


def listing_of(folder, records, **header):
    return list_episodes(read_run(write_run(folder, records, **header)))


def pairs(*statuses, task="t", index=0, **fields):
    """One initial state; arm `a` ended with the first status, `b` with the second."""
    return [
        make_record(status, policy=policy, task=task, index=index, **fields)
        for policy, status in zip("ab", statuses, strict=False)
    ]


def test_what_went_wrong_comes_first_and_arms_of_one_start_are_one_row(tmp_path):
    made = [
        *pairs("success", "success", index=0), *pairs("failure", "failure", index=1),
        *pairs("success", "failure", index=2), *pairs("success", "error", index=3),
        *pairs("failure", "success", index=0, task="u"),
    ]  # fmt: skip
    listing = listing_of(tmp_path / "run", made)
    assert [(group.kind, group.task_id, [row.start for row in group.rows]) for group in listing.groups] == [
        ("error", "s/t", ["init 3"]), ("mixed", "s/t", ["init 2"]), ("mixed", "s/u", ["init 0"]),
        ("failure", "s/t", ["init 1"]), ("success", "s/t", ["init 0"]),
    ]  # fmt: skip
    assert listing.arms == ("a fp32", "b fp32")
    assert [o.text for o in listing.groups[0].rows[0].outcomes] == ["success", "error: RuntimeError"]
    assert list(KINDS) == ["error", "mixed", "failure", "success"]
    assert listing.rows == 5


def test_an_arm_that_has_not_run_leaves_its_place_empty(tmp_path):
    made = [*pairs("success", "failure"), make_record("failure", policy="b", index=1)]
    listing = listing_of(tmp_path / "run", made)
    (row,) = [row for group in listing.groups for row in group.rows if row.start == "init 1"]
    assert row.outcomes[0] is None
    assert row.outcomes[1].text == "failure: horizon"


def test_a_varied_start_is_another_row_and_says_its_own_instruction(tmp_path):
    made = [
        make_record(index=0),
        make_record(index=0, variation="language.rephrase@2", instruction="kindly do t"),
    ]
    (group,) = listing_of(tmp_path / "run", made).groups
    assert [(row.variation, row.instruction) for row in group.rows] == [
        ("", ""), ("language.rephrase@2", "kindly do t"),
    ]  # fmt: skip
    assert group.instruction == "do t"


def test_errors_with_one_message_are_one_entry_the_most_frequent_first(tmp_path):
    rare = ErrorInfo("OSError", "disk full", "Traceback A")
    made = [
        make_record("error", index=0, error=rare),
        *(make_record("error", index=i) for i in range(1, 4)),
    ]
    listing = listing_of(tmp_path / "run", made)
    assert [(e.number, e.type, e.message, e.count) for e in listing.errors] == [
        (1, "RuntimeError", "it broke", 3), (2, "OSError", "disk full", 1),
    ]  # fmt: skip
    assert [row.outcomes[0].error for group in listing.groups for row in group.rows] == [2, 1, 1, 1]


def test_messages_that_are_all_different_do_not_fill_the_page(tmp_path):
    made = [make_record("error", index=i, error=ErrorInfo("E", f"at {i:03}")) for i in range(ERRORS + 2)]
    listing = listing_of(tmp_path / "run", made)
    assert (len(listing.errors), listing.further_errors) == (ERRORS, 2)
    numbers = [row.outcomes[0].error for group in listing.groups for row in group.rows]
    assert sorted(numbers) == [0, 0, *range(1, ERRORS + 1)]


def test_endings_count_every_record_by_arm(tmp_path):
    made = [*pairs("success", "failure", index=0), *pairs("success", "error", index=1)]
    assert listing_of(tmp_path / "run", made).endings == (
        ("error: RuntimeError", (0, 1)), ("failure: horizon", (0, 1)), ("success", (2, 0)),
    )  # fmt: skip


def test_only_videos_that_lie_in_the_folder_are_linked(tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "outside.mp4").write_bytes(b"x")
    videos = ["videos/a b#1?.mp4", "videos/gone.mp4", "../outside.mp4", str(tmp_path / "outside.mp4"),
              "javascript:alert(1)", None]  # fmt: skip
    write_run(folder, [make_record(index=i, video=video) for i, video in enumerate(videos)])
    (folder / "videos").mkdir()
    (folder / "videos/a b#1?.mp4").write_bytes(b"x")
    (group,) = list_episodes(read_run(folder)).groups
    assert [(row.outcomes[0].video, row.outcomes[0].lost) for row in group.rows] == [
        ("videos/a%20b%231%3F.mp4", False), ("", True), ("", True), ("", True), ("", True), ("", False),
    ]  # fmt: skip


def test_groups_are_cut_where_a_browser_would_pause(tmp_path):
    listing = listing_of(tmp_path / "run", [make_record(index=i) for i in range(GROUP_ROWS + 3)])
    assert [(len(group.rows), group.label) for group in listing.groups] == [
        (GROUP_ROWS, f"1–{GROUP_ROWS} of {GROUP_ROWS + 3}"),
        (3, f"{GROUP_ROWS + 1}–{GROUP_ROWS + 3} of {GROUP_ROWS + 3}"),
    ]


def test_a_run_without_records_has_an_empty_listing(tmp_path):
    listing = listing_of(tmp_path / "run", [], planned=3)
    assert (listing.arms, listing.groups, listing.errors, listing.rows) == ((), (), (), 0)
