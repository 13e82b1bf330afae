"""Signing in and out with a real browser, which sends its own origin and keeps its own cookies."""

from service.security.roles import Role
from service.security.sessions import COOKIE
from tests.service.pages.conftest import Browser, Guarded, screenshot, send, sign_in


def test_a_person_signs_in_goes_on_where_he_wanted_and_signs_out(guarded_line: Guarded, browser: Browser) -> None:
    page = browser.open(f"{guarded_line.url}/history?verdict=fail")
    assert "/sign-in?next=" in page.url
    sign_in(page, guarded_line.keys[Role.REVIEW])
    page.wait_for_url("**/history?verdict=fail")
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, "Strict")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    assert page.context.cookies() == []
    page.goto(guarded_line.url)
    assert "/sign-in" in page.url


def test_without_script_it_is_the_same(guarded_line: Guarded, browser: Browser) -> None:
    page = browser.open(f"{guarded_line.url}/statistics", script=False)
    sign_in(page, guarded_line.keys[Role.ADMIN])
    page.wait_for_url("**/statistics")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")


def test_a_wrong_key_can_be_mended(guarded_line: Guarded, browser: Browser) -> None:
    page = browser.open(f"{guarded_line.url}/try")
    sign_in(page, "wrong")
    assert "unknown or revoked" in page.get_by_role("alert").inner_text()
    screenshot(page, "sign-in-problem")
    sign_in(page, guarded_line.keys[Role.INSPECT])
    page.wait_for_url("**/try")


def test_pictures_and_the_stream_come_with_the_session(guarded_line: Guarded, browser: Browser, alien: bytes) -> None:
    key = guarded_line.keys[Role.REVIEW]
    send(guarded_line.server, alien, key=key)
    page = browser.open(guarded_line.url)
    sign_in(page, key)
    page.wait_for_function("document.getElementById('connection')?.textContent === 'Live'")
    page.wait_for_function("document.querySelector('.photo').naturalWidth === 300")
    newest = send(guarded_line.server, alien, key=key)["id"]
    page.wait_for_function("(id) => document.getElementById('open').href.endsWith(id)", arg=newest)


def test_what_a_role_may_not_is_said_on_a_page(guarded_line: Guarded, browser: Browser) -> None:
    page = browser.open(f"{guarded_line.url}/try")
    sign_in(page, guarded_line.keys[Role.INSPECT])
    page.wait_for_url("**/try")
    page.goto(guarded_line.url)
    assert "this needs review" in page.get_by_role("alert").inner_text()
    screenshot(page, "forbidden")
