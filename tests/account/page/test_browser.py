"""The page in a browser, from disk: read, sorted, filtered, by keys alone, without scripts, in the dark."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from support.records import make_header, make_record, write_run

from vla_bench.account.assembly import assemble
from vla_bench.account.page import write_page, write_single_file
from vla_bench.account.provenance import header_lines
from vla_bench.account.report import Report, write_report
from vla_bench.run.records import encode, open_run, read_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STEPS = {("a", 0): 9, ("b", 0): 100, ("a", 1): 20, ("b", 1): 3}


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium; its absence is a failure where everything should be tested."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        said = f"no browser: none of {', '.join(BROWSERS)} is installed"
        if os.environ.get("CI") == "true" and not os.environ.get("VLA_BENCH_NO_BROWSER"):
            pytest.fail(f"{said}; set VLA_BENCH_NO_BROWSER=1 to go without")
        pytest.skip(said)
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Opens a file and watches it: at the end, nothing was complained of and nothing asked for elsewhere."""
    contexts, complaints = [], []

    def open_page(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: (
            None if request.url.startswith(("file:", "data:")) else complaints.append(request.url)
        ))  # fmt: skip
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def undrawn(folder):
    """The page of a folder without figures, which take seconds to draw."""
    run = read_run(folder)
    made = dataclasses.replace(assemble(run), figures=())
    write_page(run, Report("Results", folder, tuple(header_lines(run)), made, run))
    return folder / "index.html"


def film(path):
    """A film of a second, as runs write them."""
    import imageio

    path.parent.mkdir(exist_ok=True)
    frames = [np.full((64, 64, 3), 8 * i, np.uint8) for i in range(20)]
    imageio.mimwrite(path, frames, format="FFMPEG", fps=20, codec="libx264", pixelformat="yuv420p")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two arms on ten tasks with two starts each; of the first task, one arm fails and has a film."""
    made = [
        make_record(
            "failure" if policy == "b" and task == 0 else "success", policy=policy, task=f"t{task}",
            index=index, variation=variation, steps=STEPS[policy, index] + task,
            policy_hz=[9.5, 100.25][index],
            video=f"videos/{policy}.mp4" if (task, index, variation) == (0, 0, "") else None,
        )
        for task in range(10) for index in (0, 1) for variation in ("", "visual.fog@2") for policy in "ab"
    ]  # fmt: skip
    folder = write_run(tmp_path_factory.mktemp("page") / "run", made)
    film(folder / "videos/b.mp4")
    undrawn(folder)
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return folder / "index.html"


def texts(locator):
    return [text.strip() for text in locator.all_inner_texts()]


def rows_of(page):
    """Start, task and variation of the shown rows of episodes."""
    read = """rows => rows.map(row => [
        row.querySelector('.open').firstChild.data, row.cells[1].innerText, row.cells[2].innerText])"""
    return [tuple(row) for row in page.locator("table.rows tbody tr").evaluate_all(read)]


def test_on_paper_there_are_no_controls_and_no_dark_ground_and_every_column_is_within_the_page(opened, index):
    page = opened(index, color_scheme="dark", viewport={"width": 718, "height": 1000})  # A4 with margins
    page.emulate_media(media="print")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    controls = page.locator("input, select, .contents, .controls, .filter, .pager, .files")
    assert controls.count() > 5
    assert not any(control.is_visible() for control in controls.all())
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"


def test_episodes_open_with_failures_first_and_arms_side_by_side(opened, index):
    page = opened(index)
    assert {row[1] for row in rows_of(page)[:4]} == {"s/t0"}, "its second arm failed"
    page.get_by_role("button", name="init 0 of s/t0: arms side by side").click()
    panels = page.locator("tr.side article")
    assert texts(panels.locator("h4")) == ["a fp32", "b fp32"]
    assert "success" in panels.nth(0).inner_text()
    assert "9 steps" in panels.nth(0).inner_text()
    assert "The video is missing" in panels.nth(0).inner_text()
    assert "failure: horizon" in panels.nth(1).inner_text()
    film = panels.nth(1).locator("video")
    assert film.get_attribute("src") == "videos/b.mp4"
    assert film.get_attribute("aria-label") == "Video: b fp32, s/t0, init 0, failure: horizon"
    page.wait_for_function("() => document.querySelector('video').readyState >= 1")
    assert page.evaluate("document.querySelector('video').duration") == pytest.approx(1.0, abs=0.1)
    page.get_by_role("button", name="init 0 of s/t0: arms side by side").click()
    assert panels.count() == 0
    page.get_by_role("button", name="init 0 of s/t5: arms side by side").click()
    assert texts(panels.locator(".none")) == ["No video", "No video"]


def test_episodes_filter_by_task_variation_arm_outcome_and_words(opened, index):
    page = opened(index)
    said = page.locator(".pager [aria-live]")
    assert said.inner_text() == "40 rows"
    page.get_by_label("Task", exact=True).select_option("s/t3")
    assert {row[1] for row in rows_of(page)} == {"s/t3"}
    assert said.inner_text() == "4 of 40 rows"
    page.get_by_label("Variation", exact=True).select_option(label="unvaried")
    assert [row[0] for row in rows_of(page)] == ["init 0", "init 1"]
    page.get_by_role("button", name="Show all").click()
    assert said.inner_text() == "40 rows"
    page.get_by_label("Outcome").select_option("failure")
    assert said.inner_text() == "4 of 40 rows"
    page.get_by_label("Arm").select_option(label="a fp32")
    assert said.inner_text() == "No row is left; show all, or ask for less"
    page.get_by_label("Arm").select_option(label="b fp32")
    page.get_by_label("Words").fill("fog T0")
    assert rows_of(page) == [("init 0", "s/t0", "visual.fog@2"), ("init 1", "s/t0", "visual.fog@2")]
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Outcome").select_option("video")
    assert rows_of(page) == [("init 0", "s/t0", "–")]
    page.get_by_label("Outcome").select_option("differ")
    assert said.inner_text() == "4 of 40 rows"


def test_episodes_sort_numbers_as_numbers_and_say_so(opened, index):
    page = opened(index)
    steps = page.get_by_role("columnheader", name="Steps of b fp32")
    cells = page.locator("table.rows tbody tr td:nth-child(8)")
    steps.get_by_role("button").click()
    assert steps.get_attribute("aria-sort") == "descending"
    down = list(map(int, texts(cells)))
    assert down == sorted(down, reverse=True)
    assert (down[0], down[-1]) == (109, 3)
    steps.get_by_role("button").click()
    assert steps.get_attribute("aria-sort") == "ascending"
    assert list(map(int, texts(cells))) == sorted(down)
    page.get_by_role("columnheader", name="Task", exact=True).get_by_role("button").click()
    assert steps.get_attribute("aria-sort") is None


def test_tables_sort_and_filter(opened, index):
    page = opened(index)
    table = page.locator("#comparison_tasks table")
    name = table.get_by_role("columnheader", name="task", exact=True)
    name.get_by_role("button").click()
    name.get_by_role("button").click()
    assert texts(table.locator("tbody th"))[0] == "s/t9"
    table.get_by_role("columnheader", name="successes").get_by_role("button").click()
    shares = texts(table.locator("tbody tr td:nth-child(5)"))
    assert shares[0] == "2/2"
    assert shares[-1] == "0/2"
    page.locator("#comparison_tasks").get_by_label("Filter rows").fill("s/t4 b")
    assert texts(table.locator("tbody tr:not([hidden]) th")) == ["s/t4"]
    assert page.locator("#comparison_tasks .filter [aria-live]").inner_text() == "1 of 20 rows"


NUMBERS = {
    "12/30": 0.4, "71.3 ± 4.8 (57/80)": 71.3, "57.1–88.9": 57.1, "+3.3": 3.3, "−2.5": -2.5, "1.2e-05": 1.2e-5,
    "< 0.001": 0.001, "100 [34–100] 2/2": 100, ".5": 0.5, "-": None, "not run": None, "": None,
}  # fmt: skip


def test_numbers_are_read_as_people_read_them(opened, index):
    page = opened(index)
    read = page.evaluate("texts => texts.map(numberIn).map(x => Number.isNaN(x) ? null : x)", list(NUMBERS))
    assert read == list(NUMBERS.values())


def test_what_is_undefined_stays_last_whichever_way_it_is_sorted(opened, index):
    page = opened(index)
    sort = "sign => ['2', '-', '10', '', '9'].sort(compareBy(text => text, true, sign))"
    assert page.evaluate(sort, 1) == ["2", "9", "10", "-", ""]
    assert page.evaluate(sort, -1) == ["10", "9", "2", "-", ""]


def test_keys_alone_reach_and_work_everything(opened, index):
    page = opened(index)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(400):
        page.keyboard.press("Tab")
        active = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
            return [e.tagName, e.className, e.textContent.slice(0, 60), s.outlineStyle, s.outlineWidth]; }"""
        )
        seen.append(active)
        if active[1] == "open":
            break
    assert active[1] == "open", "a row's button is reached"
    assert {"BUTTON", "SUMMARY", "SELECT", "INPUT"} <= {tag for tag, *_ in seen}
    assert not [each for each in seen if each[3] == "none" or each[4] == "0px"], "focus is always seen"
    page.keyboard.press("Enter")
    assert page.locator("tr.side").count() == 1
    page.keyboard.press("Space")
    assert page.locator("tr.side").count() == 0
    sort = page.locator("table.rows .sort").first
    sort.focus()
    page.keyboard.press("Enter")
    assert page.locator("table.rows th[aria-sort=ascending]").count() == 1


def test_without_scripts_everything_is_there_to_read_and_no_control_is_dead(opened, index):
    page = opened(index, java_script_enabled=False)
    assert page.locator("button, input, select").count() == 0
    groups = page.locator("details.group")
    assert groups.count() == 10
    assert groups.first.get_attribute("data-task") == "s/t0"
    groups.first.locator("summary").click()
    first = groups.first.locator("tbody tr").first
    assert first.is_visible()
    assert (
        " ".join(first.inner_text().split())
        == "init 0 success video missing 9 9.5 failure: horizon video 100 9.5"
    )
    assert first.get_by_role("link", name="video").get_attribute("href") == "videos/b.mp4"
    assert page.locator("details.group tbody tr").count() == 40
    assert page.get_by_role("heading", name="What stands against these numbers").is_visible()


def test_assistive_technology_is_told_a_name_of_every_control(opened, index):
    page = opened(index)
    page.locator("summary").evaluate_all("all => all.forEach(summary => summary.parentElement.open = true)")
    page.locator(".open").first.click()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    named = {"button", "link", "searchbox", "textbox", "combobox", "table", "region", "search", "navigation",
             "image", "heading", "columnheader", "Video"}  # fmt: skip
    found: dict[str, list[str]] = {}
    for node in tree:
        role = node.get("role", {}).get("value")
        if role in named and not node.get("ignored"):
            found.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert {"button", "link", "searchbox", "combobox", "table", "navigation", "heading"} <= found.keys()
    assert {role: names for role, names in found.items() if "" in map(str.strip, names)} == {}
    assert len(set(found["combobox"])) == len(found["combobox"])
    assert "Filter rows of Success by task" in found["searchbox"]


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(252, 252, 251)"), ("dark", "rgb(20, 23, 22)")])
def test_light_and_dark_are_as_the_reader_has_set_them(opened, index, scheme, ground):
    page = opened(index, color_scheme=scheme)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_nothing_but_tables_scrolls_sideways(opened, index, width):
    page = opened(index, viewport={"width": width, "height": 800})
    page.locator(".open").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_motion_is_left_out_for_those_who_ask_for_less(opened, index):
    for motion, behaviour in (("reduce", "auto"), ("no-preference", "smooth")):
        page = opened(index, reduced_motion=motion)
        assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behaviour


def test_the_page_itself_forbids_the_network_and_foreign_scripts(browser, index):
    context = browser.new_context()
    page = context.new_page()
    answered = []
    page.on("response", lambda response: answered.append(response.url))
    page.goto(index.as_uri())
    blocked = page.evaluate(
        """async () => {
            const seen = [], note = event => seen.push(event.effectiveDirective);
            document.addEventListener('securitypolicyviolation', note);
            await fetch('https://example.invalid/').catch(() => {});
            document.body.append(Object.assign(new Image(), { src: 'https://example.invalid/a.png' }));
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
            document.body.insertAdjacentHTML('beforeend', '<p style="color:red" onclick="1"></p>');
            await new Promise(done => setTimeout(done, 100));
            return [[...new Set(seen)].sort(), window.ran === undefined];
        }"""
    )
    assert blocked == [
        ["connect-src", "img-src", "script-src-attr", "script-src-elem", "style-src-attr"],
        True,
    ]
    assert all(url.startswith(("file:", "data:")) for url in answered)
    context.close()


def test_names_and_texts_with_markup_are_shown_as_they_are(opened, tmp_path):
    hard = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&amp;"
    made = [
        make_record(
            status, policy=f"{hard}{status}", instruction=hard, variation=f"visual.{hard}@1", task=f"t{hard}"
        )
        for status in ("success", "failure", "error")
    ]  # fmt: skip
    study = {"title": hard, "suites": ["s"], "statistics": {"confidence": 0.95}}
    page = opened(undrawn(write_run(tmp_path / "run", made, study=study)))
    page.locator(".open").click()
    assert page.get_by_role("heading", level=1).inner_text() == hard
    assert texts(page.locator("tr.side h4"))[0] == f"{hard}success fp32"
    assert page.locator("main img").count() == 0
    page.get_by_label("Task", exact=True).select_option(f"s/t{hard}")
    assert page.locator(".open").count() == 1


def test_figures_load_beside_the_page_and_within_one_file(opened, tmp_path):
    made = [make_record(policy=policy, variation=variation, index=i)
            for policy in "ab" for variation in ("", "visual.fog@2") for i in range(2)]  # fmt: skip
    folder = write_run(tmp_path / "run", made)
    report = write_report(folder)
    write_page(read_run(folder), report)
    alone = tmp_path / "elsewhere" / "sent.html"
    alone.parent.mkdir()
    write_single_file(read_run(folder), report).rename(alone)
    for path in (folder / "index.html", alone):
        page = opened(path)
        pictures = page.locator("figure img")
        assert pictures.count() == len(report.figures) > 0
        for i in range(pictures.count()):
            pictures.nth(i).scroll_into_view_if_needed()
            loaded = "e => e.decode().then(() => e.naturalWidth)"
            assert pictures.nth(i).evaluate(loaded) > 100
        page.locator(".open").first.click()
        assert page.locator("tr.side article").count() == 2


def test_twenty_thousand_episodes_turn_pages_and_filter(opened, tmp_path):
    folder = tmp_path / "run"
    made = [
        make_record("failure" if i % 7 == 0 else "success", policy=policy, task=f"t{task}", index=i)
        for task in range(20) for i in range(500) for policy in "ab"
    ]  # fmt: skip
    open_run(folder, make_header(made))
    (folder / "episodes-0.jsonl").write_bytes(b"".join(map(encode, made)))
    page = opened(undrawn(folder))
    said = page.locator(".pager [aria-live]")
    assert said.inner_text() == "10000 rows; 1–50 shown"
    page.get_by_role("button", name="Next").click()
    assert said.inner_text() == "10000 rows; 51–100 shown"
    page.get_by_label("Outcome").select_option("failure")
    assert said.inner_text() == "1440 of 10000 rows; 1–50 shown"
    page.get_by_label("Words").fill("t19 init 7")
    assert page.locator("table.rows tbody tr").count() > 1
    assert all("t19" in row[1] for row in rows_of(page))
