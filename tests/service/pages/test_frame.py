"""What all pages have in common: where they lead, and whom they are usable for."""

import re
from collections.abc import Callable

import pytest

from service.security.roles import Role
from tests.service.pages.conftest import NARROW, Browser, Guarded, fits, screenshot, send, sign_in, small_targets
from tests.service.running import RunningServer


def test_a_page_leads_only_where_its_visitor_may_go(guarded_line: Guarded, browser: Browser) -> None:
    expected = {
        Role.INSPECT: ["Try", "Statistics", "Engines", "API"],
        Role.REVIEW: ["Live", "Try", "History", "Statistics", "Engines", "API"],
        Role.ADMIN: ["Live", "Try", "History", "Statistics", "Engines", "API"],
    }
    for role, names in expected.items():
        page = browser.open(f"{guarded_line.url}/try")
        assert page.locator("nav[aria-label=Pages] a").all_inner_texts() == ["API"]
        sign_in(page, guarded_line.keys[role])
        page.wait_for_url("**/try")
        assert page.locator("nav[aria-label=Pages] a").all_inner_texts() == names
        assert page.locator("[aria-current=page]").inner_text() == "Try"
        assert f"{role} ({role})" in page.locator("header").inner_text()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("path", ["/", "/try", "/nothing", "/sign-in"])
def test_a_page_is_for_everybody(
    line: RunningServer,
    guarded_line: Guarded,
    browser: Browser,
    check_access: Callable,
    alien: bytes,
    path: str,
    dark: bool,
) -> None:
    send(line, alien)
    url = guarded_line.url if path == "/sign-in" else line.url
    name = f"{path.strip('/') or 'live'}-{'dark' if dark else 'light'}"
    page = browser.open(url + path, dark=dark)
    page.wait_for_load_state("load")
    check_access(page)
    screenshot(page, name)
    narrow = browser.open(url + path, dark=dark, size=NARROW)
    narrow.wait_for_load_state("load")
    assert fits(narrow)
    assert small_targets(narrow) == []
    screenshot(narrow, f"{name}-narrow")
    assert fits(browser.open(url + path, size=(1920, 1080)))


def test_the_time_is_the_browsers(line: RunningServer, browser: Browser, alien: bytes) -> None:
    send(line, alien)
    plain = browser.open(line.url, script=False)
    in_utc = plain.locator("#facts time").inner_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", in_utc)
    local = browser.open(line.url).locator("#facts time, #facts dd").all_inner_texts()
    assert not any("UTC" in text for text in local)
