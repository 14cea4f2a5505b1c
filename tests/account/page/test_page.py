"""The page as files: what it holds, how large it is, and that nothing of it comes from elsewhere."""

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from support.records import make_header, make_record, make_session, write_run
from support.worlds import ROOT

from vla_bench.account.assembly import assemble
from vla_bench.account.page import page as pages
from vla_bench.account.page import write_page, write_single_file
from vla_bench.account.provenance import header_lines
from vla_bench.account.report import Report, write_report
from vla_bench.errors import VlaBenchError
from vla_bench.run.records import ErrorInfo, encode, open_run, read_run

HARD = "<script>alert(1)</script><img src=x onerror=alert(2)> \"'`&amp;{{7*7}} </details> \u202e\x07"


def undrawn(folder):
    """A run and its report without figures, which take seconds to draw, and without files."""
    run = read_run(folder)
    made = dataclasses.replace(assemble(run), figures=())
    return run, Report("Results", folder, tuple(header_lines(run)), made, run)


def drawn(folder):
    """A run and its report with everything beside the page."""
    report = write_report(folder)
    return read_run(folder), report


def page_of(folder):
    write_page(*undrawn(folder))
    return (folder / "index.html").read_text(encoding="utf-8")


def two_arms(episodes=4, **fields):
    return [
        make_record("success" if (i + (policy == "b")) % 2 else "failure", policy=policy, index=i, **fields)
        for i in range(episodes) for policy in "ab"
    ]  # fmt: skip


class Tags(HTMLParser):
    """All tags of a page with their attributes, and its text outside of style and script."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts = [], []
        self._mute = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._mute = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._mute = False

    def handle_data(self, data):
        if not self._mute:
            self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def test_the_page_says_study_completeness_tables_episodes_and_provenance(tmp_path):
    folder = write_run(tmp_path / "run", two_arms(), planned=9, session=make_session(gl_renderer="OSMesa 8"))
    tags = Tags(page_of(folder))
    for phrase in (
        "x-55555555", "8 of 9 planned", "1 planned episode is not recorded", "Success by suite", "50.0",
        "failure: horizon", "init 3", "do t", "mujoco 3.3.7", "OSMesa 8", "vla-bench run x", "5" * 64,
    ):  # fmt: skip
        assert phrase in tags.text, phrase
    assert tags.of("html") == [{"lang": "en"}]
    assert len(tags.of("h1")) == 1
    assert all(attributes.get("scope") for attributes in tags.of("th"))
    assert len(tags.of("caption")) == len([t for t in tags.of("table") if t.get("class") == "data"])


def test_what_stands_against_the_numbers_is_in_the_summary(tmp_path):
    made = two_arms()
    made[0] = make_record("error", policy="a", index=0)
    text = page_of(write_run(tmp_path / "run", made))
    summary = text.partition("What stands against")[2].partition('id="tables"')[0]
    assert "1 errors of a,fp32,blocking,zero: RuntimeError: it broke" in summary
    assert "mujoco" not in summary
    assert "mujoco 3.3.7" in text.partition('id="provenance"')[2]
    sound = page_of(write_run(tmp_path / "sound", two_arms()))
    assert "Nothing that the records know of." in sound


def test_what_a_test_calls_best_is_said_and_not_only_bold(tmp_path):
    made = [
        make_record(status, policy=status, index=i) for i in range(12) for status in ("success", "failure")
    ]
    text = page_of(write_run(tmp_path / "run", made))
    (row,) = re.findall(r"<tr class=best>(.*?)<td", text)
    assert "(bold)" in row


def test_every_episode_can_be_read_without_a_script(tmp_path):
    made = [make_record(task=f"t{t}", index=i, steps=1000 * t + i) for t in range(3) for i in range(50)]
    tags = Tags(page_of(write_run(tmp_path / "run", made)))
    for record in made:
        assert f" {record.steps} " in tags.text


def test_names_and_texts_with_markup_come_out_escaped(tmp_path):
    error = ErrorInfo(f"Bad{HARD}", HARD, HARD)
    made = [
        make_record("failure", policy=HARD, instruction=HARD, index=0, cause=HARD),
        make_record("error", policy=HARD, error=error, index=1),
        make_record(
            policy="b", index=0, variation=f"visual.{HARD}@2", instruction=f"other {HARD}", video=HARD
        ),
    ]
    session = make_session(platform=HARD, device=HARD, command=(HARD,), versions={HARD: HARD})
    study = {"title": HARD, "suites": ["s"], "statistics": {"confidence": 0.95}}
    folder = write_run(tmp_path / "run", made, session=session, study=study, study_name="x")
    single = write_single_file(*undrawn(folder)).read_text(encoding="utf-8")
    for text in (page_of(folder), single):
        tags = Tags(text)
        assert len(tags.of("script")) == 1
        assert not [
            attributes for _, attributes in tags.found for name in attributes if name.startswith("on")
        ]
        assert not [image for image in tags.of("img") if image.get("src") == "x"]
        assert "alert(1)" in tags.text, "it is said, as text"
        assert "{{7*7}}" in tags.text
        assert "\x07" not in text


def test_nothing_of_the_page_comes_from_elsewhere(tmp_path):
    made = two_arms(variation="visual.fog@2") + two_arms()
    folder = write_run(tmp_path / "run", made)
    written = [*write_page(*drawn(folder)), write_single_file(*drawn(folder))]
    for path in written:
        text = path.read_text(encoding="utf-8")
        tags = Tags(text)
        addresses = [a[name] for _, a in tags.found for name in ("href", "src") if a.get(name) is not None]
        assert addresses
        for address in addresses:
            if address.startswith("data:"):
                continue
            assert ":" not in address
            assert not address.startswith(("/", ".."))
            target, _, anchor = address.partition("#")
            assert not target or (folder / target).exists(), address
            assert not anchor or f'id="{anchor}"' in text or target, address
        (rules,) = [meta["content"] for meta in tags.of("meta") if "http-equiv" in meta]
        assert rules.startswith("default-src 'none'")
        assert "http" not in rules
        assert "unsafe" not in rules
        assert not [a for _, a in tags.found if "style" in a], "the rules forbid styles of single elements"
        assert not re.findall(r"https?://", text)


def test_the_same_records_give_the_same_bytes_in_any_process(tmp_path):
    folder = write_run(tmp_path / "run", two_arms() + two_arms(variation="visual.fog@2"))

    def digests():
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.html")}

    write_page(*drawn(folder))
    write_single_file(*drawn(folder))
    before = digests()
    assert len(before) == 2
    command = [sys.executable, "-m", "vla_bench.cli", "report", str(folder), "--html", "--single-file"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"}
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert digests() == before
    assert f"written: {folder / 'index.html'}" in done.stdout


def many(count, arms=4, *, tasks=40, video=False):
    """So many records in as many rows as arms allow, of which a third failed."""
    rows = count // arms
    return [
        make_record(
            "failure" if (row + arm) % 3 == 0 else "success", policy=f"policy_{arm}",
            task=f"a_task_with_a_rather_long_name_as_those_of_libero_{row % tasks}", index=row // tasks,
            variation="visual.lighting@2" if row % 2 else "", steps=row % 300,
            video=f"videos/a_task_{row}_policy_{arm}_fp32_f04cc4.mp4" if video else None,
        )
        for row in range(rows) for arm in range(arms)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder of 20,000 episodes, written without waiting for the disk after each."""
    return write_quickly(tmp_path_factory.mktemp("large") / "run", many(20_000))


def write_quickly(folder, records):
    open_run(folder, make_header(records))
    (folder / "episodes-0.jsonl").write_bytes(b"".join(map(encode, records)))
    return folder


def test_a_page_of_twenty_thousand_episodes_is_below_two_megabytes(large):
    written = write_page(*undrawn(large))
    assert sum(path.stat().st_size for path in written) < 2_000_000
    text = (large / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr><th scope=row>init", text)
    assert len(rows) == 5000, "all of them, on the page itself"


def test_episodes_that_do_not_fit_stand_on_further_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_BYTES", 110_000)
    folder = write_quickly(tmp_path / "run", many(4000, tasks=20))
    written = write_page(*undrawn(folder))
    assert [path.name for path in written][:3] == ["index.html", "episodes-2.html", "episodes-3.html"]
    assert max(path.stat().st_size for path in written) < 200_000
    texts = [path.read_text(encoding="utf-8") for path in written if path.name != "index.html"]
    rows = sum(len(re.findall(r"<tr><th scope=row>init", path.read_text())) for path in written)
    assert rows == 1000
    assert all('<a href="index.html#episodes">page 1</a>' in text for text in texts)
    assert "2 pages" not in texts[0]
    monkeypatch.undo()
    write_page(*undrawn(folder))
    assert sorted(path.name for path in folder.glob("*.html")) == ["index.html"], "old pages are gone"
    single = write_single_file(*undrawn(folder)).read_text(encoding="utf-8")
    assert len(re.findall(r"<tr><th scope=row>init", single)) == 1000


def test_long_tables_have_a_page_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "TABLE_ROWS", 20)
    folder = write_run(tmp_path / "run", [make_record(task=f"t{i}") for i in range(30)])
    written = {path.name for path in write_page(*undrawn(folder))}
    assert written == {"index.html", "table-comparison_tasks.html"}
    assert "s/t29" in (folder / "table-comparison_tasks.html").read_text()
    assert 'href="table-comparison_tasks.html"' in (folder / "index.html").read_text()
    single = write_single_file(*undrawn(folder)).read_text()
    assert "30 rows, in tables/comparison_tasks.csv of the results folder" in single


def test_one_file_holds_the_figures_and_says_that_it_holds_no_videos(tmp_path):
    made = two_arms(variation="visual.fog@2") + two_arms(video="videos/a.mp4")
    folder = write_run(tmp_path / "run", made)
    (folder / "videos").mkdir()
    (folder / "videos/a.mp4").write_bytes(b"x")
    path = write_single_file(*drawn(folder))
    assert path.name == "x-55555555.html"
    tags = Tags(path.read_text(encoding="utf-8"))
    assert len(tags.of("img")) == len(list(folder.glob("figures/*.png")))
    assert {image["src"].partition(",")[0] for image in tags.of("img")} <= {
        "data:image/png;base64", "data:image/svg+xml;base64",
    }  # fmt: skip
    assert all(image["alt"] for image in tags.of("img"))
    assert tags.of("img")
    assert "Videos are not part of this file: 8 episodes of 16 have one" in tags.text
    outside = [a["href"] for a in tags.of("a") if not a["href"].startswith("#")]
    assert outside == [], "nothing that the receiver has not got is linked"


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    folder = write_run(tmp_path / "run", two_arms())
    made = undrawn(folder)
    (folder / "index.html").mkdir()
    with pytest.raises(VlaBenchError, match=r"index\.html cannot be written"):
        write_page(*made)


def test_a_run_without_any_record_has_a_page(tmp_path):
    text = page_of(write_run(tmp_path / "run", [], planned=3))
    assert "No episode is recorded yet." in text
    assert "3 planned episodes are not recorded" in text
