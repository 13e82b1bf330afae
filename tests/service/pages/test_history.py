"""The history in a real browser: filters, pages, one inspection, and what a person says of it."""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.security.roles import Role
from tests.service.ledger.postgres import running_postgres
from tests.service.pages.conftest import NARROW, Browser, Guarded, fits, screenshot, send, sign_in, small_targets
from tests.service.running import RunningServer, running_server

HTML = {"Accept": "text/html"}
HOSTILE = """"><img src=x onerror=alert(1)><script>alert('&')</script>"""


def rows(page: Any) -> list[str]:
    """The lines of the table; how its cells are set apart depends on the style, which may not be there yet."""
    return [" ".join(text.split()) for text in page.locator("tbody tr").all_inner_texts()]


def press(page: Any, name: str, role: str = "button") -> None:
    """And wait for the page that comes of it."""
    with page.expect_navigation():
        page.get_by_role(role, name=name).click()


def good(server: RunningServer, pictures: list[bytes]) -> bytes:
    """A picture that passes."""
    return next(data for data in pictures if send(server, data)["verdict"] == "pass")


def test_a_filter_shows_its_inspections_alone(
    line: RunningServer, browser: Browser, pictures: list[bytes], alien: bytes, check_access: Callable[..., None]
) -> None:
    passed = send(line, good(line, pictures), station="filter")
    send(line, alien, station="filter", part_id="F1")
    send(line, alien, station="filter", part_id="F2", part_class=passed["part_class"])
    page = browser.open(f"{line.url}/history")
    page.get_by_label("Station").fill("filter")
    page.get_by_label("Verdict").select_option("fail")
    press(page, "Show")
    assert page.url == f"{line.url}/history?verdict=fail&station=filter"
    assert [("FAIL" in row, "F1" in row or "F2" in row) for row in rows(page)] == [(True, True)] * 2
    page.get_by_label("Part id").fill("F2")
    press(page, "Show")
    assert len(rows(page)) == 1
    assert page.get_by_label("Verdict").input_value() == "fail"
    check_access(page)
    press(page, "Clear", "link")
    assert len(rows(page)) > 2


def test_pages_lead_to_older_inspections_and_back(
    line: RunningServer, browser: Browser, picture: bytes, check_access: Callable[..., None]
) -> None:
    sent = [send(line, picture, station="paging", part_id=f"N{number:02d}")["part_id"] for number in range(105)]
    page = browser.open(f"{line.url}/history?station=paging", script=False)
    seen = []
    for step, count in ("Older", 50), ("Older", 50), (None, 5):
        found = rows(page)
        assert len(found) == count
        seen += found
        if step:
            press(page, step, "link")
    assert [part for part, row in zip(reversed(sent), seen, strict=True) if part in row] == sent[::-1]
    assert page.get_by_role("link", name="Older").count() == 0
    press(page, "Newer", "link")
    assert rows(page) == seen[50:100]
    press(page, "Newer", "link")
    assert rows(page) == seen[:50]
    assert page.get_by_role("link", name="Newer").count() == 0
    with_script = browser.open(f"{line.url}/history?station=paging")
    screenshot(with_script, "history")
    check_access(with_script)


def test_times_are_those_of_the_browser_and_without_script_utc(
    line: RunningServer, browser: Browser, picture: bytes
) -> None:
    send(line, picture, station="zones")
    berlin = datetime.now(ZoneInfo("Europe/Berlin"))
    page = browser.open(f"{line.url}/history?station=zones")
    for hours, count in ((-0.1, 1), (0.5, 0)):
        begin = (berlin + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M")
        page.get_by_label("From").fill(begin)
        press(page, "Show")
        page.wait_for_function("!document.querySelector('[data-zone]')")
        assert page.get_by_label("From").input_value()[:16] == begin
        assert len(rows(page)) == count
    assert "No inspection is like this" in page.inner_text("main")
    utc = berlin.astimezone(ZoneInfo("UTC"))
    bare = browser.open(f"{line.url}/history?station=zones", script=False)
    assert "UTC" in rows(bare)[0]
    bare.get_by_label("From").fill((utc - timedelta(minutes=6)).strftime("%Y-%m-%dT%H:%M"))
    press(bare, "Show")
    assert len(rows(bare)) == 1
    bare.get_by_label("Before").fill((utc - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M"))
    press(bare, "Show")
    assert rows(bare) == []


def test_one_is_opened_and_overruled(
    line: RunningServer, browser: Browser, alien: bytes, check_access: Callable[..., None]
) -> None:
    sent = send(line, alien, station="opened", part_id="O1")
    page = browser.open(f"{line.url}/history?station=opened&verdict=fail")
    page.locator("tbody a").first.click()
    page.wait_for_url(f"**/history/{sent['id']}?**")
    text = page.inner_text("main")
    for shown in "✕ FAIL", "O1", "opened", sent["id"], sent["engine"]["name"], sent["part_class"]:
        assert shown in text
    page.wait_for_function("document.querySelector('.photo').naturalWidth === 300")
    assert page.locator(".outlines .over").count() == len(sent["regions"])
    screenshot(page, "inspection")
    check_access(page)
    page.get_by_label("Note").fill("Only dust,\n<b>wiped</b> off.")
    press(page, "Overrule: fine")
    review = page.locator(".reviews li").inner_text()
    assert "overruled: fine" in review
    assert "<b>wiped</b> off." in review
    recorded = line.client.get(f"/v1/inspections/{sent['id']}").json()["review"]
    assert (recorded["label"], recorded["note"]) == ("ok", "Only dust,\n<b>wiped</b> off.")
    press(page, "Confirm: defective")
    assert "confirmed: defective" in page.locator(".reviews li").first.inner_text()
    check_access(page)
    page.get_by_role("link", name="History", exact=True).last.click()
    page.wait_for_url("**/history?station=opened&verdict=fail")
    assert "confirmed: defective" in rows(page)[0]


def test_the_keyboard_is_enough_and_script_is_not_needed_to_review_one_after_another(
    line: RunningServer, browser: Browser, alien: bytes
) -> None:
    sent = [send(line, alien, station="worklist")["id"] for _ in range(3)]
    page = browser.open(f"{line.url}/history/{sent[2]}?station=worklist&reviewed=false", script=False)
    for id_ in sent[::-1]:
        assert f"/history/{id_}?" in page.url
        page.get_by_role("button", name="Confirm: defective").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**#reviews")
        assert page.locator(".reviews li").count() == 1
        older = page.get_by_role("link", name="Older")
        if id_ != sent[0]:
            older.focus()
            page.keyboard.press("Enter")
            page.wait_for_url(lambda url, id_=id_: id_ not in url)
        else:
            assert older.count() == 0
    page.goto(f"{line.url}/history?station=worklist&reviewed=false")
    assert rows(page) == []


def test_a_picture_that_is_not_kept_is_said_to_be(
    line: RunningServer, browser: Browser, pictures: list[bytes], check_access: Callable[..., None]
) -> None:
    data = good(line, pictures)
    # More than are remembered.
    first, *_ = [send(line, data) for _ in range(30)]
    page = browser.open(f"{line.url}/history/{first['id']}")
    assert "The picture is not kept" in page.inner_text("main")
    assert page.locator("main img").count() == 0
    assert page.get_by_role("button", name="Confirm: fine").is_visible()
    check_access(page)


def test_what_clients_wrote_is_shown_and_not_run(line: RunningServer, browser: Browser, alien: bytes) -> None:
    sent = send(line, alien, station=HOSTILE, part_id=HOSTILE)
    page = browser.open(f"{line.url}/history")
    assert page.locator("tbody tr").first.locator(".text").all_inner_texts() == [HOSTILE, HOSTILE]
    page.get_by_label("Station").fill(HOSTILE)
    press(page, "Show")
    assert len(rows(page)) == 1
    assert page.get_by_label("Station").input_value() == HOSTILE
    page.goto(f"{line.url}/history/{sent['id']}")
    assert page.get_by_text(HOSTILE).count() == 2
    assert page.locator("main img").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_a_telephone_and_fingers(
    line: RunningServer, browser: Browser, alien: bytes, scheme: str, check_access: Callable[..., None]
) -> None:
    sent = send(line, alien, station="W" * 64, part_id="P" * 128)
    for path in "/history", f"/history/{sent['id']}":
        page = browser.open(line.url + path, size=NARROW, dark=scheme == "dark")
        assert fits(page)
        assert small_targets(page) == []
        screenshot(page, f"{path.split('/')[1]}-{len(path) > 10}-{scheme}-narrow")
        check_access(page)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("verdict=bad", "verdict"),
        ("from=yesterday", "from"),
        ("after=x", "after"),
        ("statoin=S1", "statoin"),
        ("reviewed=perhaps", "reviewed"),
        (f"station={'x' * 65}", "station"),
        ("station=a%00b", "station"),
    ],
)
def test_a_wrong_filter_is_said_above_the_form(line: RunningServer, browser: Browser, query: str, said: str) -> None:
    page = browser.open(f"{line.url}/history?{query}&part_id=kept")
    assert said in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Part id").input_value() == "kept"
    assert line.client.get(f"/history?{query}", headers=HTML).status_code == 422


def test_all_of_time_is_a_filter(line: RunningServer, picture: bytes) -> None:
    send(line, picture)
    span = {"from": "0001-01-01T00:00:00+14:00", "to": "9999-12-31T23:59:59-14:00"}
    answer = line.client.get("/history", params=span, headers=HTML)
    assert answer.status_code == 200
    assert "<tbody>" in answer.text


@pytest.mark.parametrize("unknown", ["0" * 32, "nothing", "%00"])
def test_an_unknown_inspection_is_said_to_be(line: RunningServer, unknown: str) -> None:
    answer = line.client.get(f"/history/{unknown}", headers=HTML)
    assert answer.status_code == 404
    assert "The ledger has no inspection" in answer.text
    answer = line.client.post(f"/history/{unknown}/review", data={"label": "ok"}, headers=HTML)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"note": "kept"}, "press one of the two buttons"),
        ({"label": "good", "note": "kept"}, "press one of the two buttons"),
        ({"label": "ok", "note": "kept" + "x" * 2000}, "over 2000 characters"),
        ({"label": "ok", "note": "kept\x07"}, "cannot be printed"),
    ],
)
def test_a_wrong_review_is_said_and_its_note_kept(
    line: RunningServer, picture: bytes, fields: dict[str, str], said: str
) -> None:
    id_ = send(line, picture)["id"]
    answer = line.client.post(f"/history/{id_}/review", data=fields, headers=HTML)
    assert answer.status_code == 422
    assert said in answer.text
    assert ">kept" in answer.text
    assert line.client.get(f"/v1/inspections/{id_}").json()["reviews"] == []


def test_a_review_that_cannot_be_recorded_is_said_and_its_note_kept(
    bundle_folder: Path, tmp_path: Path, browser: Browser, alien: bytes
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        page = browser.open(f"{server.url}/history/{send(server, alien)['id']}")
        page.get_by_label("Note").fill("Seen twice.")
        connection = sqlite3.connect(tmp_path / "data" / "ledger.sqlite3", isolation_level=None)
        # As another program that writes and does not end; the past can still be read.
        connection.execute("BEGIN IMMEDIATE")
        press(page, "Overrule: fine")
        page.get_by_role("alert").wait_for()
        assert "cannot be written" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Note").input_value() == "Seen twice."
        connection.close()
        server.wait_ready()
        press(page, "Overrule: fine")
        assert "Seen twice." in page.locator(".reviews").inner_text()


def test_a_database_that_is_gone_is_said_in_place_of_the_page(
    bundle_folder: Path, tmp_path: Path, browser: Browser, alien: bytes
) -> None:
    with (
        running_postgres() as postgres,
        running_server(bundle_folder, tmp_path, "--ledger", postgres.make_database("pages")) as server,
    ):
        sent = send(server, alien, station="S1")
        page = browser.open(f"{server.url}/history?station=S1&verdict=fail&reviewed=false")
        assert len(rows(page)) == 1
        page.goto(f"{server.url}/history/{sent['id']}")
        press(page, "Confirm: defective")
        postgres.stop()
        for path in "/history", f"/history/{sent['id']}", "/statistics":
            page.goto(server.url + path)
            assert "The ledger cannot be read now" in page.get_by_role("alert").inner_text()
        postgres.start()
        server.wait_ready()
        page.goto(f"{server.url}/history?reviewed=true")
        assert len(rows(page)) == 1


def test_a_role_sees_and_does_what_it_may(guarded_line: Guarded, browser: Browser, alien: bytes) -> None:
    server = guarded_line.server
    id_ = send(server, alien, key=guarded_line.keys[Role.INSPECT])["id"]
    page = browser.open(f"{guarded_line.url}/history/{id_}")
    sign_in(page, guarded_line.keys[Role.INSPECT])
    assert "this needs review" in page.get_by_role("alert").inner_text()
    camera = {"X-API-Key": guarded_line.keys[Role.INSPECT], **HTML}
    assert server.client.post(f"/history/{id_}/review", data={"label": "ok"}, headers=camera).status_code == 403
    page = browser.open(f"{guarded_line.url}/history/{id_}")
    sign_in(page, guarded_line.keys[Role.REVIEW])
    page.wait_for_url(f"**/history/{id_}")
    page.wait_for_function("document.querySelector('.photo').naturalWidth > 0")
    press(page, "Overrule: fine")
    assert "review" in page.locator(".reviews li").inner_text()
    found = server.client.get(f"/v1/inspections/{id_}", headers={"X-API-Key": guarded_line.keys[Role.REVIEW]}).json()
    assert (found["review"]["label"], found["review"]["reviewer"]) == ("ok", "review")
    page.goto(f"{guarded_line.url}/history")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    assert id_ in Path(download.value.path()).read_text()
