"""The first page over a connection that is cut, refused or ended, and while it stays open for long."""

import time
from pathlib import Path

from service.security.keys import KeyFile
from service.security.roles import Role
from tests.service.pages.cable import cable
from tests.service.pages.conftest import Browser, Guarded, screenshot, send, sign_in
from tests.service.pages.test_live import open_live, shown, wait_for_shown
from tests.service.running import RunningServer, running_server


def test_a_lost_connection_is_said_and_mends_itself_and_nothing_is_missed(
    line: RunningServer, browser: Browser, alien: bytes
) -> None:
    with cable(line.url) as carrying:
        page = open_live(browser, carrying.url)
        wait_for_shown(page, first := send(line, alien)["id"])
        carrying.pull()
        page.get_by_text("connection to the service is lost").wait_for()
        assert page.locator("#connection").inner_text() == "Not live"
        missed = [send(line, alien)["id"] for _ in range(2)]
        screenshot(page, "live-lost")
        assert shown(page) == first
        carrying.mend()
        wait_for_shown(page, missed[-1])
        assert not page.get_by_text("connection to the service is lost").is_visible()
        tiles = [tile.get_attribute("href").rpartition("/")[2] for tile in page.locator(".tile").all()]
        assert tiles[:3] == [*missed[::-1], first]


def test_drift_is_said_on_a_page_that_stays_open(
    bundle_folder: Path, tmp_path: Path, browser: Browser, pictures: list[bytes]
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        page = browser.open(server.url, clock=True)
        assert not page.locator("#drift").is_visible()
        best = max(pictures, key=lambda data: send(server, data)["p_value"])

        def is_drifting() -> bool:
            for _ in range(20):
                send(server, best)
            return any(one["drifting"] for one in server.client.get("/v1/drift").json()["part_classes"])

        server.wait_for(is_drifting)
        page.clock.fast_forward(31_000)
        page.get_by_text("is not as in training").wait_for()
        screenshot(page, "live-drift")


def test_why_the_stream_is_refused_is_said(line: RunningServer, browser: Browser) -> None:
    readers = [line.client.stream("GET", "/v1/inspections/stream") for _ in range(32)]
    try:
        for reader in readers:
            reader.__enter__()
        page = browser.open(line.url)
        page.get_by_text("32 programs listen").wait_for()
    finally:
        for reader in readers:
            reader.__exit__(None, None, None)
    page.wait_for_function("document.getElementById('connection').textContent === 'Live'")
    assert not page.locator("#lost").is_visible()


def test_a_page_whose_key_is_revoked_leads_to_the_sign_in(
    guarded_line: Guarded, browser: Browser, alien: bytes
) -> None:
    file = KeyFile(guarded_line.folder)
    key = file.create("guest", Role.REVIEW)
    time.sleep(1.2)
    with cable(guarded_line.url) as carrying:
        page = browser.open(carrying.url)
        sign_in(page, key)
        page.wait_for_url(f"{carrying.url}/")
        page.wait_for_function("document.getElementById('connection')?.textContent === 'Live'")
        file.revoke("guest")
        time.sleep(1.2)
        carrying.pull()
        carrying.mend()
        page.wait_for_url("**/sign-in?next=/")
