from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboards import Leaderboard, LeaderboardError
from leaderboards.page import inline_json, write_page
from leaderboards.report import load, write_report
from tests.leaderboards.browser import open_browser
from tests.leaderboards.runs import make_run

CELLS = {
    f"cell{i}": {"placement": p, "text": t, "reference": r}
    for i, (p, t, r) in enumerate(
        (p, t, r) for p in ("tass", "overlap") for t in (1.0, 3.0) for r in (1.0, 2.0)
    )
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(
        tmp_path_factory.mktemp("page") / "quick", CELLS, identities=7, prompts=1, videos=True,
        failed=[(2, 3)],
    )  # fmt: skip
    write_report(run)
    return run


def test_report_writes_everything(run: Path) -> None:
    names = {
        p.relative_to(run / "leaderboard").as_posix() for p in (run / "leaderboard").rglob("*")
    }
    assert {
        "leaderboard.csv", "leaderboard.parquet", "leaderboard.json", "leaderboard.md",
        "leaderboard.tex", "index.html", "samples.js", "ablation_placement.csv",
        "ablation_placement.tex", "ablation_text.csv", "ablation_reference.tex",
        "figures/identity_text.svg", "figures/identity_text.pdf", "figures/identity_text.png",
        "figures/guidance.svg", "figures/guidance_2.png", "figures/ablation_text.pdf",
    } <= names  # fmt: skip


def test_report_is_the_same_bytes_again_and_keeps_unchanged_figures(run: Path) -> None:
    folder = run / "leaderboard"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    drawn = (folder / "figures" / "identity_text.svg").stat().st_mtime_ns
    paths = write_report(run)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert (folder / "figures" / "identity_text.svg").stat().st_mtime_ns == drawn
    assert all(path.is_file() for path in paths)


@pytest.mark.slow
def test_figures_drawn_again_are_the_same_bytes(run: Path, tmp_path: Path) -> None:
    write_report(run, folder=tmp_path / "again")
    for path in (run / "leaderboard" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "figures" / path.name).read_bytes()


def test_page_asks_for_nothing_outside(run: Path) -> None:
    page = (run / "leaderboard" / "index.html").read_text()
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([a-z]+:)?//""", page)
    assert links == []
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_json_cannot_leave_its_script() -> None:
    text = inline_json({"a": "</script><!--\u2028"})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"a": "</script><!--\u2028"}


def samples(page: Path) -> list[dict[str, Any]]:
    """Each entry's videos and scores, from the page's pieces."""
    out = []
    for n in range(len(list((page / "samples").glob("*.js")))):
        text = (page / "samples" / f"{n}.js").read_text()
        assert text.startswith(f"STDRC_PIECE({n},")
        out += json.loads(text[len(f"STDRC_PIECE({n},") : -3])
    return out


def test_copied_page_stands_alone(run: Path, tmp_path: Path) -> None:
    write_page(load(run), tmp_path / "sent", media="copy", title="<Sent> & away")
    entries = samples(tmp_path / "sent")
    paths = [m for entry in entries for m in entry["media"] if isinstance(m, str)]
    assert len(paths) == 8 * 7 - 1
    assert all((tmp_path / "sent" / path).is_file() for path in paths)
    assert "<title>&lt;Sent&gt; &amp; away" in (tmp_path / "sent" / "index.html").read_text()


def test_path_that_leaves_the_run_is_refused(tmp_path: Path) -> None:
    import sqlite3

    run = make_run(tmp_path / "run", {"a": {}})
    with sqlite3.connect(run / "store.sqlite") as db:
        db.execute("UPDATE videos SET path = '../../secret.mp4' WHERE sample = 's000'")
    with pytest.raises(LeaderboardError, match="leaves the run folder"):
        write_page(Leaderboard.from_run(run), tmp_path / "page")


def test_page_of_a_bare_table(tmp_path: Path) -> None:
    import pandas as pd

    board = Leaderboard.from_table(pd.DataFrame({"team": ["a", "b"], "FID v": [1.0, 2.0]}))
    page = write_page(board, tmp_path).read_text()
    assert "no intervals: the means came without samples" in page


# --------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def page(run: Path) -> Iterator[Any]:
    browser = open_browser()
    browser.get("about:blank")
    browser.get_log("performance")  # what the browser loads for itself before there is a page
    browser.get((run / "leaderboard" / "index.html").as_uri())
    yield browser
    browser.quit()


def rows(page: Any) -> list[str]:
    found = page.find_elements("css selector", "#leaderboard tbody tr")
    return [row.get_attribute("data-entry") for row in found]


def column(page: Any, index: int) -> list[float]:
    cells = page.find_elements("css selector", f"#leaderboard tbody td:nth-child({index}) .mean")
    return [float(cell.text) for cell in cells]


def pick_sample(page: Any, name: str) -> None:
    """Options are called by the sample and, where there is one, the number they are sorted by."""
    from selenium.webdriver.support.ui import Select

    options = Select(page.find_element("id", "sample"))
    options.select_by_visible_text(
        next(o.text for o in options.options if o.text.split()[0] == name)
    )


def test_sort(page: Any, run: Path) -> None:
    assert rows(page) == [e.key for e in load(run).entries]
    button = page.find_element("css selector", "th[data-column='identity.dlib'] button")
    button.click()
    head = page.find_element("css selector", "th[data-column='identity.dlib']")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 3) == sorted(column(page, 3), reverse=True)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 3) == sorted(column(page, 3))


def test_filter(page: Any) -> None:
    from selenium.webdriver.support.ui import Select

    box = page.find_element("id", "filter")
    box.send_keys("overlap")
    assert len(rows(page)) == 4
    box.send_keys(" nothing like it")
    assert "No entry fits" in page.find_element("css selector", "#leaderboard tbody").text
    page.execute_script(
        "arguments[0].value=''; arguments[0].dispatchEvent(new Event('input'))", box
    )
    text = next(
        s for s in page.find_elements("css selector", "#table .controls label")
        if s.text.startswith("text")
    ).find_element("tag name", "select")  # fmt: skip
    Select(text).select_by_visible_text("3")
    assert len(rows(page)) == 4
    Select(text).select_by_visible_text("all")
    assert len(rows(page)) == 8


def test_open_a_sample_and_play_two_videos(page: Any, run: Path) -> None:

    pick_sample(page, "s004")
    assert page.find_element("id", "prompt").text == "a person moves right in front of <wall> & 4"
    reference = page.find_element("css selector", ".refs img")
    assert page.execute_script("return arguments[0].naturalWidth", reference) == 96
    shown = page.find_elements("css selector", "#videos video")
    assert len(shown) >= 2
    play = page.find_element("id", "play")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", play)
    play.click()
    deadline = time.monotonic() + 20
    playing: list[Any] = []
    while time.monotonic() < deadline and len(playing) < len(shown):
        playing = page.execute_script(
            "return [...document.querySelectorAll('#videos video')]"
            ".filter(v => v.currentTime > 0.1 && v.videoWidth === 64)"
        )
        time.sleep(0.1)
    assert len(playing) == len(shown)


def test_choosing_entries_and_failures(page: Any) -> None:

    pick_sample(page, "s003")
    page.execute_script("document.querySelector('details.chooser').open = true")
    chip = page.find_element("css selector", "[data-chip=cell2]")
    if chip.get_attribute("aria-pressed") == "false":
        page.execute_script("arguments[0].click()", chip)
    card = page.find_element("css selector", "[data-card=cell2]")
    assert "the video has NaN frames" in card.text
    assert "the video has NaN frames" in page.find_element("id", "failures").text


def test_plot_and_heat_maps(page: Any) -> None:
    points = page.find_elements("css selector", "#plot .point")
    assert len(points) == 8
    assert len(page.find_elements("css selector", "#plot .point:not(.off)")) >= 1
    assert len(page.find_elements("css selector", "#guidance .heat")) == 2
    assert len(page.find_elements("css selector", "#guidance .heat td.peak")) == 2


def test_everything_that_is_operated_has_a_name(page: Any) -> None:
    nameless = page.execute_script(
        """return [...document.querySelectorAll('button, select, input, video, img, svg[role]')]
        .filter(e => !(e.getAttribute('aria-label') || e.alt || e.textContent.trim() ||
          (e.labels && e.labels.length)))
        .map(e => e.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page: Any, scheme: str) -> None:
    """WCAG AA: text and muted text against the ground at 4.5 to 1 in both themes."""
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    colours = page.execute_script(
        """const style = getComputedStyle(document.documentElement);
        return Object.fromEntries(['bg', 'sunk', 'ink', 'soft', 'muted', 'accent', 'bad']
          .map(n => [n, style.getPropertyValue('--' + n).trim()]))"""
    )

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for ground in ("bg", "sunk"):
        for ink in ("ink", "soft", "muted", "accent", "bad"):
            a, b = sorted((light(colours[ground]), light(colours[ink])))
            assert (b + 0.05) / (a + 0.05) >= 4.5, (scheme, ground, ink)


def test_phone(page: Any) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_errors_and_no_request_leaves(page: Any) -> None:
    """Last in this file: looks at all that the tests above have made the page do."""
    errors = [e for e in page.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert errors == []
    asked = []
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
