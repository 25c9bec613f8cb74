"""The page in a real browser, opened from its folder as a reader does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omniloop.core.scene import Scene
from omniloop.report.html import write_report
from omniloop.report.player_budget import FOLDER
from omniloop.runlog.folder import rollout_dir
from omniloop.runlog.results import write_result
from tests.report.builders import make_frames, make_record, make_result, make_scene, write_log
from tests.report.devtools import Browser, find_chromium

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium")

TIME = "document.querySelector('.player .scrub').valueAsNumber"
PIXELS = "document.querySelector('.player canvas').toDataURL()"
FOCUS = "document.activeElement.matches({!r})"
NAMES = (
    "Array.from(document.querySelectorAll('#score-table tbody tr:not([hidden]) th'))"
    ".map(h => h.dataset.v).join(' ')"
)


def overlapped(scene: Scene) -> Scene:
    """The scene with one more lane over both, its outline in the other sense."""
    right, left = scene.map.lanes
    wide = replace(left, id="wide", left=right.right, right=left.left)
    return replace(scene, map=replace(scene.map, lanes=(right, left, wide)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rollouts; only the players of two are in the page: the crash and one more."""
    folder = tmp_path_factory.mktemp("browser") / "a run"
    folder.mkdir()
    for name, speed_mps in (("calm", 4.0), ("crash", 10.0), ("slow", 3.0), ("failed", 5.0)):
        record = make_record(overlapped(make_scene(name)), speed_mps=speed_mps)
        place = rollout_dir(folder, name, 0)
        place.mkdir(parents=True)
        write_log(place / "log.mcap", record, make_frames(record))
        outcome = "policy_failed" if name == "failed" else "completed"
        write_result(place / "result.json", make_result(record, outcome))
    return write_report(folder, most_inline=2)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser, page: Path) -> Browser:
    chromium.open(page)
    return chromium


def open_player(browser: Browser, anchor: str) -> None:
    browser.run(f"document.querySelector('#{anchor} .opener').click()")
    browser.until(f"document.querySelector('#{anchor} .player') !== null")


def tab_to(browser: Browser, selector: str, at_most: int = 80) -> None:
    for _ in range(at_most):
        browser.press("Tab")
        if browser.run(FOCUS.format(selector)):
            return
    pytest.fail(f"{selector} is not reached by Tab")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 400])
def test_it_opens_without_an_error_and_is_not_wider_than_the_window(
    chromium: Browser, page: Path, width: int, dark: bool
) -> None:
    chromium.open(page, width=width, dark=dark)
    open_player(chromium, "r1")
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.problems == []


def test_the_player_plays_and_stops_and_says_what_it_shows(browser: Browser) -> None:
    open_player(browser, "r1")
    browser.tick(220)  # the first frame says when it begins
    first, seen = browser.run(TIME), browser.run(PIXELS)
    assert first == -800
    browser.tick(400)
    assert browser.run(TIME) == first + 400
    assert browser.run(PIXELS) != seen
    assert browser.run("document.querySelector('.play').textContent") == "Pause"
    browser.run("document.querySelector('.play').click()")
    browser.tick(100)
    assert browser.run(TIME) == first + 400
    assert "10.0 m/s" in browser.run("document.querySelector('.told').textContent")
    browser.until("document.querySelector('.film img').naturalWidth === 320")
    assert browser.problems == []


def test_it_plays_by_the_browsers_own_frames(chromium: Browser, page: Path) -> None:
    chromium.open(page, held=False)
    open_player(chromium, "r1")
    chromium.run("document.querySelector('.rate').value = '4'")
    chromium.until("document.querySelector('.play').textContent === 'Play'")
    assert chromium.run(TIME) == chromium.run("Number(document.querySelector('.scrub').max)")


def test_lanes_that_overlap_leave_no_hole(browser: Browser) -> None:
    open_player(browser, "r1")
    browser.run("document.querySelector('.play').click()")
    scrub(browser, 1000)
    for layer in ("plan", "route", "trail", "recorded"):
        browser.run(f"document.querySelector('[data-layer={layer}]').click()")
    lane = browser.run("JSON.parse(document.getElementById('palettes').textContent).light.lane")
    ahead = (  # 10 m ahead of ego, on two lanes and a wide one over both
        "(c => Array.from(c.getContext('2d').getImageData(c.width / 2,"
        " Math.round(c.height * (0.68 - 10 / 60)), 1, 1).data.slice(0, 3)))"
        "(document.querySelector('.player canvas'))"
    )
    assert browser.run(ahead) == lane


def test_a_dashed_line_is_drawn_as_dashes(browser: Browser) -> None:
    open_player(browser, "r1")
    browser.run("document.querySelector('.play').click()")
    scrub(browser, 1000)
    for layer in ("plan", "route", "trail", "recorded"):
        browser.run(f"document.querySelector('[data-layer={layer}]').click()")
    paint = browser.run("JSON.parse(document.getElementById('palettes').textContent).light")
    column = (  # along the line between the lanes, 1.75 m to the left of ego
        "(c => Array.from(c.getContext('2d').getImageData("
        "Math.round(c.width / 2 - 1.75 * c.height / 60), 0, 1, c.height).data)"
        ".filter((_, k) => k % 4 == 0).join(' '))(document.querySelector('.player canvas'))"
    )
    reds = [int(v) for v in browser.run(column).split()]
    painted = [abs(v - paint["line_white"][0]) < abs(v - paint["lane"][0]) for v in reds]
    runs = "".join("x" if p else " " for p in painted).split()
    assert 4 <= len(runs) <= 7  # 60 m, a dash every 12 m; a box may lie over one
    assert sorted(map(len, runs))[len(runs) // 2] == pytest.approx(3 * len(reds) / 60, abs=3)


def test_it_stops_at_the_end_and_starts_over(browser: Browser) -> None:
    open_player(browser, "r1")
    browser.run("document.querySelector('.rate').value = '4'")
    browser.tick(1520)  # of 6 s
    assert browser.run("document.querySelector('.play').textContent") == "Play"
    assert browser.run(TIME) == browser.run("Number(document.querySelector('.scrub').max)")
    browser.run("document.querySelector('.play').click()")
    browser.tick(120)
    assert browser.run(TIME) == -600


def scrub(browser: Browser, ms: int) -> str:
    browser.run(
        f"(s => {{ s.value = {ms}; s.dispatchEvent(new Event('input')); }})"
        "(document.querySelector('.scrub'))"
    )
    told: str = browser.run("document.querySelector('.told').textContent")
    return told


def test_scrubbing_shows_the_instant_with_its_incident(browser: Browser) -> None:
    open_player(browser, "r1")
    browser.run("document.querySelector('.play').click()")
    assert "warm-up" in scrub(browser, -600)
    early = browser.run(PIXELS)
    assert "closed loop" in scrub(browser, 1000)
    assert browser.run(PIXELS) != early
    assert "front collision" in scrub(browser, 4000)
    assert browser.run("document.querySelectorAll('.marks .incident').length") == 1
    picture = browser.run("document.querySelector('.film img').src")
    scrub(browser, -1000)
    assert browser.run("document.querySelector('.film img').src") != picture


def test_a_layer_that_is_switched_off_is_not_drawn(browser: Browser) -> None:
    open_player(browser, "r1")
    browser.run("document.querySelector('.play').click()")
    scrub(browser, 1000)
    for layer in ("plan", "route", "trail"):
        whole = browser.run(PIXELS)
        browser.run(f"document.querySelector('[data-layer={layer}]').click()")
        assert browser.run(PIXELS) != whole, layer
    whole = browser.run(PIXELS)
    browser.run("document.querySelector('.north').click()")
    assert browser.run(PIXELS) != whole


def test_an_incident_opens_the_player_shortly_before_it(browser: Browser) -> None:
    browser.run("document.querySelector('.gallery [data-open]').click()")
    browser.until("document.querySelector('#r1 .player') !== null")
    began = browser.run(TIME)
    assert 0 < began < 3600
    browser.tick(120)
    assert browser.run(TIME) == began + 100


def test_a_script_that_is_not_the_page_s_own_does_not_run(browser: Browser) -> None:
    browser.run("window.ran = 0")
    browser.run(
        "(s => { s.textContent = 'window.ran = 1'; document.head.appendChild(s); })"
        "(document.createElement('script'))"
    )
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"ran=1\">')")
    browser.until("document.images[document.images.length - 1].complete")
    assert browser.run("window.ran") == 0
    browser.until_problem("Content Security Policy")


def test_a_player_beside_the_page_loads_from_its_script(browser: Browser, page: Path) -> None:
    scripts = sorted(p.name for p in (page.parent / FOLDER).iterdir())
    assert scripts == ["r0.js", "r3.js"]
    open_player(browser, "r3")
    browser.tick(120)
    assert browser.run(TIME) == -900
    assert browser.problems == []


def test_a_script_that_is_not_there_is_told(chromium: Browser, page: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(page, tmp_path))
    chromium.open(alone)
    chromium.run("document.querySelector('#r3 .opener').click()")
    chromium.until("document.querySelector('#r3 [role=alert]') !== null")
    told = chromium.run("document.querySelector('#r3 [role=alert]').textContent")
    assert told == "report_players/r3.js is not beside this page: keep the run's folder together."
    open_player(chromium, "r1")  # that of the page itself still opens


def test_the_table_sorts_by_click_and_key(browser: Browser) -> None:
    assert browser.run(NAMES) == "calm/0 crash/0 failed/0 slow/0"
    browser.run("document.querySelector('#score-table thead button').click()")
    browser.run("document.querySelector('#score-table thead button').click()")
    assert browser.run(NAMES) == "slow/0 failed/0 crash/0 calm/0"
    browser.run("document.querySelectorAll('#score-table thead button')[2].focus()")  # incident
    browser.press("Enter")
    browser.press(" ")
    assert browser.run(NAMES).startswith("crash/0")
    sort = "document.querySelectorAll('#score-table thead th')[2].getAttribute('aria-sort')"
    assert browser.run(sort) == "descending"


def test_the_table_filters_by_text_outcome_and_incident(browser: Browser) -> None:
    def choose(control: str, value: str) -> str:
        browser.run(
            f"(c => {{ c.value = {value!r}; c.dispatchEvent(new Event('input')); }})"
            f"(document.getElementById('filter-{control}'))"
        )
        names: str = browser.run(NAMES)
        return names

    assert choose("outcome", "policy_failed") == "failed/0"
    assert choose("outcome", "") == "calm/0 crash/0 failed/0 slow/0"
    assert choose("incident", "collision") == "crash/0"
    assert choose("incident", "no") == "calm/0 failed/0 slow/0"
    told = browser.run("document.getElementById('filter-told').textContent")
    assert told == "3 of 4 rollouts; means are over all"
    browser.run("document.querySelector('#filters [type=reset]').click()")
    browser.until(f"{NAMES}.split(' ').length === 4")
    browser.run("document.getElementById('filter-text').focus()")
    browser.type("FRONT car")
    assert browser.run(NAMES) == "crash/0"


def test_everything_is_reached_by_the_keyboard(browser: Browser) -> None:
    for selector in ("#filter-text", "#filter-outcome", "#filter-incident", "[type=reset]"):
        tab_to(browser, selector)
    tab_to(browser, "#score-table thead button")
    tab_to(browser, "#score-table a")
    tab_to(browser, ".gallery [data-open]")
    tab_to(browser, "#r1 .opener")
    browser.press("Enter")
    browser.until(FOCUS.format("#r1 .play"))
    browser.tick(220)
    assert browser.run(TIME) == -800
    browser.press(" ")
    assert browser.run("document.querySelector('.play').textContent") == "Play"
    tab_to(browser, ".scrub")
    at = browser.run(TIME)
    browser.press("ArrowRight", times=5)
    assert browser.run(TIME) == at + 100
    for selector in (".rate", ".zoom-out", ".zoom-in", "[data-layer=plan]", ".north"):
        tab_to(browser, selector)
    browser.run("document.querySelector('#r1 canvas').focus()")
    browser.press("End")
    browser.press("ArrowLeft", times=2)
    assert browser.run(TIME) == browser.run("Number(document.querySelector('.scrub').max)") - 200
    browser.press("Home")
    browser.press(" ")
    browser.tick(120)
    assert browser.run(TIME) == -900


def test_without_a_camera_the_player_says_so_and_shows_no_broken_picture(
    chromium: Browser, tmp_path: Path
) -> None:
    record = make_record(camera=False)
    place = rollout_dir(tmp_path, "authored", 0)
    place.mkdir(parents=True)
    write_log(place / "log.mcap", record)
    write_result(place / "result.json", make_result(record))
    chromium.open(write_report(tmp_path))
    open_player(chromium, "r0")
    assert chromium.run("document.querySelector('.film').textContent") == "Nothing was rendered."
    assert chromium.run("getComputedStyle(document.querySelector('.film img')).display") == "none"
    assert chromium.problems == []
