"""The first page: what the line makes, as it makes it."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.pages.conftest import NARROW, Browser, fits, screenshot, send, small_targets
from tests.service.running import RunningServer, running_server


def open_live(browser: Browser, url: str, **how: Any) -> Any:
    page = browser.open(url, **how)
    page.wait_for_function("document.getElementById('connection').textContent === 'Live'")
    return page


def shown(page: Any) -> str:
    """The id of the inspection on the page."""
    return page.locator("#open").get_attribute("href").rpartition("/")[2]


def wait_for_shown(page: Any, id_: str) -> None:
    page.wait_for_function("(id) => document.getElementById('open').href.endsWith(id)", arg=id_)


def facts(page: Any) -> dict[str, str]:
    rows = page.locator("#facts dl > div")
    return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in rows.all()}


def test_an_inspection_appears_as_soon_as_it_is_made(
    line: RunningServer, browser: Browser, alien: bytes, check_access: Callable
) -> None:
    page = open_live(browser, line.url)
    start = time.monotonic()
    answer = send(line, alien, station="press 1", part_id="P-77")
    wait_for_shown(page, answer["id"])
    assert time.monotonic() - start < 3.0
    assert page.locator("#verdict").inner_text() == "✕ FAIL"
    told = facts(page)
    assert told["Part"] == "P-77" and told["Station"] == "press 1"
    assert answer["part_class"] in told["Part class"]
    assert float(told["Score"]) == pytest.approx(answer["score"], rel=1e-3)
    assert re.fullmatch(r"\d+\.\d ms", told["Execution time"])
    scale = page.locator("#scale svg")
    assert f"{answer['threshold']:.4g}"[:5] in scale.get_attribute("aria-label")
    assert scale.locator(".score").get_attribute("class") == "score fail"
    assert page.locator(".outlines .over").count() == len(answer["regions"]) > 0
    region, box = answer["regions"][0], page.locator(".outlines .over").first
    assert [float(box.get_attribute(name)) for name in ("x", "y", "width", "height")] == [
        region[name] for name in ("x", "y", "width", "height")
    ]
    check_access(page)
    screenshot(page, "live-fail")


def test_the_picture_of_a_part_that_passes_is_seen_although_it_is_not_kept(
    line: RunningServer, browser: Browser, pictures: list[bytes]
) -> None:
    page = open_live(browser, line.url)
    passed = next(answer for data in pictures if (answer := send(line, data))["verdict"] == "pass")
    wait_for_shown(page, passed["id"])
    assert page.locator("#verdict").inner_text() == "✓ PASS"
    photo = page.locator(".photo")
    assert photo.evaluate("(image) => image.naturalWidth") == passed["image"]["width"]
    assert not page.locator(".missing").is_visible()
    screenshot(page, "live-pass")


def test_the_heatmap_lies_on_the_picture_and_its_slider_fades_it(
    line: RunningServer, browser: Browser, alien: bytes
) -> None:
    send(line, alien)
    page = open_live(browser, line.url)
    slider, heat = page.get_by_label("Heatmap"), page.locator(".heat")
    page.wait_for_function("document.querySelector('.heat').getAttribute('href') !== null")
    status = page.evaluate("(path) => fetch(path).then((answer) => answer.status)", heat.get_attribute("href"))
    assert status == 200
    # 300 x 200 pixels, of which the page makes more.
    photo, laid = (page.locator(one).bounding_box() for one in (".photo", ".heat"))
    scale = min(photo["width"] / 300, photo["height"] / 200)
    assert laid["width"] == pytest.approx(300 * scale, abs=2)
    assert laid["x"] + laid["width"] / 2 == pytest.approx(photo["x"] + photo["width"] / 2, abs=2)
    assert laid["y"] + laid["height"] / 2 == pytest.approx(photo["y"] + photo["height"] / 2, abs=2)
    box = slider.bounding_box()
    before = page.screenshot(clip=photo)
    page.mouse.click(box["x"] + 1, box["y"] + box["height"] / 2)
    assert float(heat.get_attribute("opacity")) < 0.05
    without = page.screenshot(clip=photo)
    assert without != before
    page.get_by_label("Outline regions").uncheck()
    assert page.screenshot(clip=photo) != without


def test_a_paused_page_stays_and_goes_on_with_the_newest(line: RunningServer, browser: Browser, alien: bytes) -> None:
    page = open_live(browser, line.url)
    first = send(line, alien)["id"]
    wait_for_shown(page, first)
    page.keyboard.press("Space")
    newest = [send(line, alien)["id"] for _ in range(2)][-1]
    page.get_by_role("button", name="Go on (2 new)").wait_for()
    assert shown(page) == first
    page.keyboard.press("Space")
    wait_for_shown(page, newest)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Go on").click()
    assert page.get_by_role("button", name="Pause").is_visible()


def test_arrows_step_through_the_newest(line: RunningServer, browser: Browser, alien: bytes) -> None:
    """As soon as the page says that it is live, although the newest come late."""
    ids = [send(line, alien)["id"] for _ in range(3)]
    page = open_live(browser, line.url)
    page.route("**/v1/inspections?*", lambda route: (time.sleep(0.3), route.continue_()))
    page.reload()
    page.wait_for_function("document.getElementById('connection').textContent === 'Live'")
    wait_for_shown(page, ids[2])
    page.keyboard.press("ArrowLeft")
    wait_for_shown(page, ids[1])
    page.keyboard.press("ArrowLeft")
    wait_for_shown(page, ids[0])
    page.keyboard.press("ArrowRight")
    wait_for_shown(page, ids[1])
    assert page.locator(".tile[aria-current]").get_attribute("href").endswith(ids[1])
    page.get_by_role("button", name="Newer").click()
    wait_for_shown(page, ids[2])
    page.get_by_role("button", name="Older").click()
    wait_for_shown(page, ids[1])
    page.locator(".tile").nth(2).click()
    wait_for_shown(page, ids[0])


def test_the_strip_has_the_newest_dozen(line: RunningServer, browser: Browser, alien: bytes) -> None:
    ids = [send(line, alien)["id"] for _ in range(14)]
    page = open_live(browser, line.url)
    wait_for_shown(page, ids[-1])
    tiles = [tile.get_attribute("href").rpartition("/")[2] for tile in page.locator(".tile").all()]
    assert tiles == ids[::-1][:12]


def test_a_fast_line_is_shown_in_part_and_its_last_part_always(
    line: RunningServer, browser: Browser, alien: bytes
) -> None:
    page = open_live(browser, line.url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    start = time.monotonic()
    ids = [send(line, alien)["id"] for _ in range(40)]
    seconds = time.monotonic() - start
    wait_for_shown(page, ids[-1])
    heatmaps = [url for url in asked if "/heatmap" in url]
    assert 1 <= len(heatmaps) <= seconds / 0.4 + 3


def test_a_station_can_be_watched_alone(line: RunningServer, browser: Browser, alien: bytes) -> None:
    mine = send(line, alien, station="press <2>")["id"]
    send(line, alien, station="press 3")
    page = browser.open(line.url)
    page.get_by_label("Station").select_option("press <2>")
    page.wait_for_url("**/?station=*")
    page.wait_for_function("document.getElementById('connection').textContent === 'Live'")
    assert shown(page) == mine
    send(line, alien, station="press 3")
    mine = send(line, alien, station="press <2>")["id"]
    wait_for_shown(page, mine)
    assert len(page.locator(".tile").all()) == 2


def test_without_script_the_newest_are_there_and_the_page_comes_again(
    line: RunningServer, browser: Browser, alien: bytes
) -> None:
    answer = send(line, alien, station="no script")
    page = browser.open(line.url, script=False)
    assert shown(page) == answer["id"]
    assert page.locator("#verdict").inner_text() == "✕ FAIL"
    assert page.locator(".photo").evaluate("(image) => image.complete && image.naturalWidth > 0")
    assert "every 5 s" in page.locator("#connection").inner_text()
    assert not page.get_by_role("button", name="Pause").is_visible()
    newer = send(line, alien)["id"]
    page.locator(f"#open[href$='{newer}']").wait_for(timeout=9000)
    screenshot(page, "live-without-script")


def test_a_page_that_is_opened_before_the_first_part_fills_with_it(
    bundle_folder: Path, tmp_path: Path, browser: Browser, alien: bytes, check_access: Callable
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        page = open_live(browser, server.url)
        assert page.get_by_text("No inspection yet").is_visible()
        assert not page.locator("#live").is_visible()
        check_access(page)
        screenshot(page, "live-empty")
        answer = send(server, alien)
        wait_for_shown(page, answer["id"])
        assert page.locator("#live").is_visible()
        assert not page.get_by_text("No inspection yet").is_visible()


def test_what_a_client_calls_its_parts_is_text(line: RunningServer, browser: Browser, alien: bytes) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    answer = send(line, alien, part_id=hostile, station=f"{hostile}'\"")
    for script in (True, False):
        page = browser.open(line.url, script=script)
        wait_for_shown(page, answer["id"])
        assert hostile in page.locator("#facts").inner_text()
        assert page.locator("img[src=x]").count() == 0
    page = open_live(browser, line.url)
    wait_for_shown(page, send(line, alien, part_id=hostile)["id"])
    assert facts(page)["Part"] == hostile
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_for_a_tablet_and_a_telephone(
    line: RunningServer, browser: Browser, check_access: Callable, pictures: list[bytes], alien: bytes, dark: bool
) -> None:
    for data in (*pictures[:6], alien):
        answer = send(line, data, station="press 1")
    for name, size in (("tablet", (820, 1180)), ("phone", NARROW), ("wall", (1920, 1080))):
        page = open_live(browser, line.url, size=size, dark=dark)
        wait_for_shown(page, answer["id"])
        assert fits(page)
        assert small_targets(page) == []
        check_access(page)
        screenshot(page, f"live-{name}-{'dark' if dark else 'light'}")
