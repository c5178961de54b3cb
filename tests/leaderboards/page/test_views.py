"""What a reader does with the page: columns, explanations, links, weights, samples, crowds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leaderboards import Leaderboard, LeaderboardError
from leaderboards.page import write_page
from leaderboards.ranking import anchors_of
from leaderboards.report import load, write_report
from tests.leaderboards.browser import open_browser
from tests.leaderboards.page.test_page import CELLS, pick_sample, rows
from tests.leaderboards.runs import encode, make_run, moving_square


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("views") / "quick", CELLS, identities=7, prompts=1,
                   videos=True)  # fmt: skip
    write_report(run)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    browser = open_browser()
    yield browser
    browser.quit()


def visit(browser: Any, page: Path, view: str = "") -> Any:
    browser.get("about:blank")  # a change behind "#" alone would load nothing
    browser.get(page.as_uri() + (f"#{view}" if view else ""))
    wait(browser, "return document.querySelectorAll('#leaderboard tbody tr').length > 0")
    return browser


def wait(browser: Any, script: str, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := browser.execute_script(script):
            return found
        time.sleep(0.05)
    raise AssertionError(f"never: {script}")


@pytest.fixture
def page(browser: Any, run: Path) -> Any:
    return visit(browser, run / "leaderboard" / "index.html")


def heads(page: Any) -> list[str]:
    found = page.find_elements("css selector", "#leaderboard thead th")
    return [head.get_attribute("data-column") for head in found]


def press(page: Any, selector: str) -> None:
    page.execute_script("arguments[0].click()", page.find_element("css selector", selector))


def text_of(page: Any) -> str:
    return str(page.execute_script("return document.body.innerText"))


def test_rows_are_one_line_high_and_the_table_fits(page: Any) -> None:
    heights = page.execute_script(
        "return [...document.querySelectorAll('#leaderboard tbody tr')].map(r => r.offsetHeight)"
    )
    assert max(heights) <= 40
    scroller = page.execute_script(
        "const s = document.querySelector('#table .scroller');return [s.scrollWidth, s.clientWidth]"
    )
    assert scroller[0] <= scroller[1]


def narrow(browser: Any, width: int, height: int, mobile: bool) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.mark.parametrize("mobile", [False, True])
def test_nothing_is_cut_off_at_a_laptops_and_a_phones_width(
    mobile: bool, browser: Any, tmp_path: Path
) -> None:
    """A wide table: six columns of numbers below zero, and four settings that name an entry."""
    rng = np.random.default_rng(0)
    names = ("Identity ^", "Text alignment ^", "FVD v", "Copy-paste v", "Consistency ^", "SSIM ^")
    rows_ = [
        {"entry": f"{p}{t}{r}", "axis:placement": p, "axis:text": t, "axis:reference": r,
         "sample": f"s{k}", "identity": f"p{k % 8}"}
        | {name: rng.normal(-0.5, 0.3) for name in names}
        for p in ("tass", "overlap", "spatial") for t in (1, 3) for r in (1, 6) for k in range(16)
    ]  # fmt: skip
    table = pd.DataFrame(rows_)
    table["label"] = table["entry"]
    index = write_page(Leaderboard.from_table(table), tmp_path)
    narrow(browser, *((390, 844) if mobile else (1280, 900)), mobile)
    try:
        page = visit(browser, index)
        over = "return arguments[0].scrollWidth - arguments[0].clientWidth"
        table = page.find_element("css selector", "#table .scroller")
        whole = page.find_element("css selector", "html")
        assert page.execute_script(over, whole) <= 0
        assert len(heads(page)) >= 8
        if not mobile:
            assert page.execute_script(over, table) <= 0
        assert page.find_element("id", "intervals").is_selected() is not mobile
        for id_ in ("place", "name", heads(page)[2]):
            if page.find_element("css selector", f"th[data-column='{id_}']").get_attribute(
                "aria-sort"
            ) == "none":  # fmt: skip
                press(page, f"th[data-column='{id_}'] button")
            # What is painted in the middle of the arrow is the arrow's own head.
            assert page.execute_script(
                """const head = document.querySelector(`th[data-column='${arguments[0]}']`);
                const mark = head.querySelector('.sorted');
                const box = mark.getBoundingClientRect();
                const top = document.elementFromPoint(box.left + 1, box.top + box.height / 2);
                const far = document.elementFromPoint(box.right - 1, box.top + box.height / 2);
                return mark.textContent && [top, far].every(e => e && head.contains(e))
                """, id_,
            )  # fmt: skip
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_word_of_a_machine(page: Any) -> None:
    for word in ("null", "undefined", "NaN", "[object", "Infinity"):
        assert word not in text_of(page)


def test_what_counts_stands_first_and_presets_choose(page: Any, run: Path) -> None:
    board = load(run)
    counted = [board.columns[c].key for c in board.scheme.columns]
    assert heads(page)[:2] == ["place", "name"]
    assert heads(page)[2 : 2 + len(counted)] == counted
    press(page, "[data-preset='All with settings']")
    assert set(heads(page)) >= {c.key for c in board.columns} | {"axis.text", "first", "n"}
    press(page, "[data-preset=identity]")
    assert [h for h in heads(page) if "." in h] == ["identity.dlib"]
    press(page, "[data-pick='text.clip']")
    assert [h for h in heads(page) if "." in h] == ["identity.dlib", "text.clip"]
    shown = page.find_elements("css selector", "#ablations thead th")
    assert any(head.text.startswith("Text") for head in shown)
    assert not any(head.text.startswith("Warping") for head in shown)


def test_each_head_is_explained(page: Any) -> None:
    press(page, "[data-preset='All with settings']")
    for button in page.find_elements("css selector", "#leaderboard thead button"):
        page.execute_script("arguments[0].focus()", button)
        tip = page.find_element("id", "tip")
        assert tip.is_displayed()
        assert len(tip.text) > 15
        assert button.get_attribute("aria-description") == tip.text
    page.execute_script(
        "document.querySelector('th[data-column=\"temporal.warp\"] button').focus()"
    )
    told = page.find_element("id", "tip").text
    assert "Warping error" in told
    assert "Lower is better." in told


def test_places_have_bars(page: Any, run: Path) -> None:
    standing = load(run).standings[0]
    first = page.find_element("css selector", "#leaderboard tbody td.at")
    assert first.text == standing.text
    bar = first.find_element("css selector", ".whisker i")
    share = page.execute_script("return parseFloat(arguments[0].style.width)", bar)
    assert share == pytest.approx(100 * (standing.high - standing.low) / 7, abs=0.1)


def test_a_link_brings_the_view_back(page: Any, browser: Any, run: Path) -> None:
    press(page, "[data-preset=identity]")
    press(page, "th[data-column='identity.dlib'] button")
    press(page, "th[data-column='identity.dlib'] button")
    pick_sample(page, "s002")
    key = page.find_element("css selector", "[data-chip][aria-pressed=false]")
    chip = key.get_attribute("data-chip")
    press(page, f"[data-chip={chip}]")
    page.find_element("id", "filter").send_keys("tass")
    address, order = page.current_url, rows(page)
    assert "sort=identity.dlib" in address
    again = visit(browser, run / "leaderboard" / "index.html", address.split("#")[1])
    assert rows(again) == order
    assert [h for h in heads(again) if "." in h] == ["identity.dlib"]
    wait(again, f"return document.querySelector('[data-card={chip}]') !== null")
    assert again.find_element("id", "prompt").text.endswith("& 2")
    assert again.find_element("id", "filter").get_attribute("value") == "tass"


def test_weights_by_slider(page: Any, run: Path) -> None:
    board = load(run)
    page.execute_script("document.querySelector('details.weights').open = true")
    for key, weight in (("identity.dlib", 0.25), ("text.clip", 0.75)):
        slider = page.find_element("css selector", f"[data-weight='{key}']")
        page.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            slider, str(weight),
        )  # fmt: skip
    for slider in page.find_elements("css selector", "[data-weight]"):
        if slider.get_attribute("data-weight") not in ("identity.dlib", "text.clip"):
            page.execute_script(
                "arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", slider
            )
    total = np.zeros(len(board.entries))
    for key, weight in (("identity.dlib", 0.25), ("text.clip", 0.75)):
        c = board.columns.index(board.column(key))
        worst, best = anchors_of(board.columns[c])
        total += weight * np.clip((board.means[:, c] - worst) / (best - worst), 0, 1)
    order = [board.entries[i].key for i in np.argsort(-total, kind="stable")]
    assert rows(page) == order
    k = heads(page).index("score") + 1
    cells = page.find_elements("css selector", f"#leaderboard tbody td:nth-child({k})")
    assert [float(cell.text) for cell in cells] == pytest.approx(np.sort(total)[::-1], abs=6e-4)
    # The address brings sliders and order back; a heavier text moves the order towards text.
    visit(page, run / "leaderboard" / "index.html", page.current_url.split("#")[1])
    assert rows(page) == order
    slider = page.find_element("css selector", "[data-weight='identity.dlib']")
    assert slider.get_attribute("value") == "0.25"
    page.execute_script(
        "arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", slider
    )
    text = board.means[:, board.columns.index(board.column("text.clip"))]
    assert rows(page) == [board.entries[i].key for i in np.argsort(-text, kind="stable")]
    press(page, "#reset-weights")
    assert "score" not in heads(page)
    assert rows(page) == [entry.key for entry in board.entries]


def test_samples_open_on_the_best_and_a_contrast_by_gap(page: Any, run: Path) -> None:
    from selenium.webdriver.support.ui import Select

    board = load(run)
    cards = [
        c.get_attribute("data-card") for c in page.find_elements("css selector", "[data-card]")
    ]
    assert cards[0] == board.entries[0].key
    assert cards[-1] == board.entries[-1].key
    assert len({board.entry(c).axes["placement"] for c in cards[:2]}) == 2
    c = board.columns.index(board.column("identity.dlib"))
    values = board.scores.values[c]
    names = board.scores.keys["sample"].tolist()

    def options() -> list[str]:
        found = Select(page.find_element("id", "sample")).options
        return [option.text.split()[0] for option in found]

    gap = values[0] - values[-1]
    assert options() == [names[k] for k in np.argsort(-gap, kind="stable")]
    Select(page.find_element("id", "sample-order")).select_by_value("score")
    assert options() == [names[k] for k in np.argsort(-values[0], kind="stable")]
    Select(page.find_element("id", "sample-order")).select_by_value("spread")
    assert options() == [names[k] for k in np.argsort(-values.std(axis=0), kind="stable")]
    Select(page.find_element("id", "sample-order")).select_by_value("set")
    assert options() == names


def test_points_open_videos(page: Any) -> None:
    before = len(page.find_elements("css selector", "[data-card]"))
    for point in page.find_elements("css selector", "#plot g[role=img]"):
        page.execute_script(
            "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", point
        )
    wait(page, f"return document.querySelectorAll('[data-card]').length === {8 - before}")


def test_several_runs_in_one_page(browser: Any, run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", CELLS, identities=7, prompts=1, videos=True, seed=1)
    board = Leaderboard.from_runs([run, other], on_mixed="blank")
    index = write_page(board, tmp_path / "both", runs=[run, other], media="copy")
    page = visit(browser, index)
    assert len(rows(page)) == 16
    assert "quick and other" in text_of(page)
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", "run")).select_by_visible_text("other")
    assert len(rows(page)) == 8
    pick_sample(page, "s000")
    press(page, f"[data-chip='{rows(page)[0]}']")
    wait(page, "return document.querySelectorAll('#videos video').length >= 2")
    wait(page, "return [...document.querySelectorAll('#videos video')]"
               ".every(v => v.videoWidth === 64)")  # fmt: skip
    with pytest.raises(LeaderboardError, match="two of the runs are called 'quick'"):
        write_page(board, tmp_path / "x", runs=[run, tmp_path / "quick"])


def test_what_is_not_there_is_said_in_its_place(browser: Any, tmp_path: Path) -> None:
    """A run whose reference is lost beside a table of which a video is lost and one is frames."""
    cells = {"a": {"model": "ours"}}
    run = make_run(tmp_path / "run", cells, identities=3, prompts=1, videos=True)
    (run / "references" / "id001.png").unlink()
    (run / "references" / "id002.png").write_text("no picture")
    (tmp_path / "frames").mkdir()
    encode(tmp_path / "there.mp4", moving_square(3))
    table = tmp_path / "theirs.csv"
    table.write_text(
        "entry,sample,identity,metric,backend,version,value,video\n"
        "theirs,s000,id000,identity.dlib,dlib,1,0.5,there.mp4\n"
        "theirs,s001,id001,identity.dlib,dlib,1,0.5,lost.mp4\n"
        "theirs,s002,id002,identity.dlib,dlib,1,0.5,frames\n"
    )
    with pytest.warns(UserWarning, match="The page cannot show") as warned:
        write_report(run, folder=tmp_path / "page", more=[table])
    told = [str(one.message) for one in warned]
    assert len(told) == 2
    assert told[0] == (
        f"The page cannot show 2 videos, the first: {tmp_path / 'lost.mp4'}: The video was not "
        "found."
    )
    assert "cannot show 2 reference images, the first: " in told[1]
    page = visit(browser, tmp_path / "page" / "index.html")
    press(page, "[data-preset='All with settings']")
    for sample, words, videos in (
        ("s000", (), 2),
        ("s001", ("The reference image was not found.", "The video was not found."), 1),
        ("s002", ("The reference image is not readable as an image.",
                  "The video is a folder of frames, which a page cannot play."), 1),
    ):  # fmt: skip
        pick_sample(page, sample)
        wait(page, f"return document.querySelectorAll('#videos video').length === {videos}")
        wait(page, "return [...document.querySelectorAll('#videos video')]"
                   ".every(v => v.videoWidth === 64)")  # fmt: skip
        shown = page.execute_script(
            "return [...document.querySelectorAll('#samples .blank')].map(e => e.textContent)"
        )
        assert shown == list(words)


def test_earlier_plans_stand_under_their_own_heading(browser: Any, tmp_path: Path) -> None:
    import sqlite3

    run = make_run(tmp_path / "run", CELLS, identities=7, prompts=1)
    with sqlite3.connect(run / "store.sqlite") as db:
        # A whole cell was dropped, and of another one sample.
        db.execute("DELETE FROM planned WHERE video IN (SELECT video FROM videos WHERE cell = "
                   "'cell7' OR (cell = 'cell0' AND sample = 's000'))")  # fmt: skip
        mean = db.execute("SELECT AVG(value) FROM scores JOIN videos USING (video) WHERE "
                          "cell = 'cell7' AND metric = 'identity.dlib'").fetchone()[0]  # fmt: skip
    paths = write_report(run)
    frame = pd.read_csv(run / "leaderboard" / "earlier.csv")
    assert run / "leaderboard" / "earlier.csv" in paths
    assert frame["label"].tolist() == ["tass 1 1", "overlap 3 2"]
    assert frame["videos"].tolist() == [1, 7]
    assert frame["identity.dlib"].iloc[1] == pytest.approx(mean, rel=1e-5)
    assert "8 videos that earlier plans made (2 settings)" in " ".join(load(run).notes)
    page = visit(browser, run / "leaderboard" / "index.html")
    assert len(rows(page)) == 7
    shown = page.find_elements("css selector", "#earlier tbody tr")
    assert [row.find_element("css selector", "td").text for row in shown] == frame["label"].tolist()
    assert f"{mean:.2f}" in shown[1].text
    assert page.find_element("css selector", "#earlier h2").text == "Earlier plans"
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("INSERT OR IGNORE INTO planned SELECT video, 'planted' FROM videos")
    write_report(run)
    assert not (run / "leaderboard" / "earlier.csv").exists()
    assert "Earlier plans" not in text_of(visit(browser, run / "leaderboard" / "index.html"))


@pytest.mark.parametrize("n", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_entries(n: int, browser: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"team": [f"model {k}" for k in range(n)], "Face-Arc ^": rng.random(n),
         "CLIPScore ^": 20 + 10 * rng.random(n), "FID v": 100 + 100 * rng.random(n)}
    )  # fmt: skip
    board = Leaderboard.from_table(frame)
    index = write_page(board, tmp_path)
    assert index.stat().st_size < 150e3 + 600 * n
    begun = time.monotonic()
    page = visit(browser, index)
    assert time.monotonic() - begun < 10
    shown = page.execute_script("return document.querySelectorAll('#leaderboard tbody tr').length")
    assert shown < 200
    assert rows(page)[0] == board.entries[0].key
    page.execute_script("document.querySelector('#table .scroller').scrollTop = 1e9")
    wait(page, f"return [...document.querySelectorAll('[data-entry]')].at(-1).dataset.entry === "
               f"'{board.entries[-1].key}'")  # fmt: skip
    page.find_element("id", "filter").send_keys("model 123")
    # 123 alone; or 123, 1123 to 9123, and 1230 to 1239
    assert len(rows(page)) == (20 if n == 10_000 else 1)
    assert "null" not in text_of(page)


def test_pieces(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Any) -> None:
    """Entries are spread over pieces, and an entry's piece is loaded when it is chosen."""
    monkeypatch.setattr("leaderboards.page.samples.PIECE", 14)
    index = write_page(load(run), tmp_path, media="copy")
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [f"{n}.js" for n in range(4)]
    page = visit(browser, index)
    wait(page, "return document.querySelectorAll('[data-card]').length === 3")
    loaded = "return document.querySelectorAll('script[src^=\"samples/\"]').length"
    before = page.execute_script(loaded)
    assert before < 4
    for key in CELLS:
        if not page.find_elements("css selector", f"[data-card={key}]"):
            press(page, f"[data-chip={key}]")
    wait(page, "return document.querySelectorAll('#videos video').length === 8")
    assert page.execute_script(loaded) == 4
    monkeypatch.undo()
    write_page(load(run), tmp_path, media="copy")
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["0.js"]  # none of before is left
