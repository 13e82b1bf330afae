"""The page on which an image is tried."""

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from service.security.roles import Role
from tests.service.pages.conftest import NARROW, Browser, Guarded, fits, screenshot, sign_in, small_targets
from tests.service.running import RunningServer


def as_file(data: bytes, name: str = "part.jpg") -> dict[str, Any]:
    return {"name": name, "mimeType": "image/tiff" if name.endswith(".tif") else "image/jpeg", "buffer": data}


def choose(page: Any, data: bytes, name: str = "part.jpg") -> None:
    page.locator("#file").set_input_files(as_file(data, name))


def wait_for_photo(page: Any) -> None:
    """The browser shows the 300 pixels wide picture."""
    page.wait_for_function("document.querySelector('.photo')?.naturalWidth === 300")


def wait_for_verdict(page: Any) -> str:
    page.locator("#answer").wait_for(state="visible")
    return page.locator("#verdict").inner_text()


def test_a_chosen_image_is_inspected_and_shown(
    line: RunningServer, browser: Browser, alien: bytes, check_access: Callable
) -> None:
    page = browser.open(f"{line.url}/try")
    choose(page, alien)
    assert wait_for_verdict(page) == "✕ FAIL"
    wait_for_photo(page)
    assert page.locator(".heat").get_attribute("href").startswith("data:image/png;base64,")
    assert page.locator(".outlines .over").count() > 0
    assert "300 × 200" in page.locator("#facts").inner_text()
    recorded = line.client.get("/v1/inspections", params={"station": "try", "limit": 1}).json()["inspections"]
    assert recorded[0]["verdict"] == "fail"
    check_access(page)
    screenshot(page, "try-result")


def test_an_image_can_be_dropped(line: RunningServer, browser: Browser, pictures: list[bytes]) -> None:
    page = browser.open(f"{line.url}/try")
    transfer = page.evaluate_handle(
        """(base64) => {
          const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "part.png", { type: "image/png" }));
          return transfer;
        }""",
        base64.b64encode(pictures[0]).decode(),
    )
    for kind in ("dragover", "drop"):
        page.dispatch_event("#drop", kind, {"dataTransfer": transfer})
    assert wait_for_verdict(page) in ("✓ PASS", "✕ FAIL")
    assert not page.locator("#invitation").is_visible()


def test_the_class_can_be_given_and_changed(line: RunningServer, browser: Browser, pictures: list[bytes]) -> None:
    page = browser.open(f"{line.url}/try")
    choose(page, pictures[0], "part.png")
    wait_for_verdict(page)
    assert "(recognised)" in page.locator("#facts").inner_text()
    names = page.locator("#part-class option").all_inner_texts()
    engine = line.client.get("/v1/engine").json()
    assert names == ["recognise", *(part["name"] for part in engine["part_classes"])]
    page.get_by_label("Part class").select_option(names[-1])
    page.get_by_text(f"{names[-1]} (given)").wait_for()


def test_what_is_no_image_is_said_where_one_looks(line: RunningServer, browser: Browser, alien: bytes) -> None:
    page = browser.open(f"{line.url}/try")
    choose(page, b"no picture at all")
    page.get_by_role("alert").get_by_text("not a picture").wait_for()
    assert not page.locator("#answer").is_visible()
    screenshot(page, "try-problem")
    choose(page, alien)
    wait_for_verdict(page)
    assert not page.locator("#refused").is_visible()


def test_a_service_that_does_not_answer_is_said(line: RunningServer, browser: Browser, alien: bytes) -> None:
    page = browser.open(f"{line.url}/try")
    page.route("**/v1/inspections?*", lambda route: route.abort())
    choose(page, alien)
    page.get_by_role("alert").get_by_text("The service does not answer").wait_for()


def test_a_picture_that_browsers_do_not_show_is_shown(line: RunningServer, browser: Browser, alien: bytes) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(alien)).save(buffer, "TIFF")
    page = browser.open(f"{line.url}/try")
    choose(page, buffer.getvalue(), "part.tif")
    assert wait_for_verdict(page) == "✕ FAIL"
    wait_for_photo(page)
    assert not page.get_by_label("Heatmap").is_visible()
    assert page.get_by_label("Outline regions").is_visible()


def test_without_script_the_form_does_it(
    line: RunningServer, browser: Browser, alien: bytes, check_access: Callable
) -> None:
    page = browser.open(f"{line.url}/try", script=False)
    choose(page, alien)
    page.get_by_role("button", name="Inspect").click()
    assert wait_for_verdict(page) == "✕ FAIL"
    wait_for_photo(page)
    assert page.locator("#facts").inner_text().count("ms") == 1
    screenshot(page, "try-without-script")
    choose(page, b"no picture at all")
    page.get_by_role("button", name="Inspect").click()
    assert "not a picture" in page.get_by_role("alert").inner_text()


@pytest.mark.parametrize(
    ("files", "data", "status", "words"),
    [
        ({"file": ("x.png", b"")}, {}, 415, "empty"),
        ({"other": ("x.png", b"x")}, {}, 422, "no file"),
        ({"file": ("x.png", b"x")}, {"part_class": "x" * 65}, 422, "part_class"),
    ],
)
def test_a_form_that_is_wrong_is_said_on_a_page(
    line: RunningServer, files: dict, data: dict, status: int, words: str
) -> None:
    answer = line.client.post("/try", files=files, data=data, headers={"Accept": "text/html"})
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert 'role="alert"' in answer.text and words in answer.text


def test_an_unknown_class_is_said(line: RunningServer, alien: bytes) -> None:
    answer = line.client.post("/try", files={"file": ("x.jpg", alien)}, data={"part_class": "<b>"})
    assert answer.status_code == 422
    assert "&lt;b&gt;" in answer.text and "<b>" not in answer.text


def test_who_may_only_inspect_can_try(guarded_line: Guarded, browser: Browser, alien: bytes) -> None:
    page = browser.open(f"{guarded_line.url}/try")
    sign_in(page, guarded_line.keys[Role.INSPECT])
    page.wait_for_url("**/try")
    choose(page, alien)
    assert wait_for_verdict(page) == "✕ FAIL"
    wait_for_photo(page)
    plain = browser.open(f"{guarded_line.url}/try", script=False)
    sign_in(plain, guarded_line.keys[Role.INSPECT])
    choose(plain, alien)
    plain.get_by_role("button", name="Inspect").click()
    wait_for_photo(plain)


@pytest.mark.parametrize("size", [NARROW, (820, 1180)])
def test_a_result_fits_a_small_screen(
    line: RunningServer, browser: Browser, alien: bytes, size: tuple[int, int]
) -> None:
    page = browser.open(f"{line.url}/try", size=size, dark=True)
    choose(page, alien)
    wait_for_verdict(page)
    assert fits(page)
    assert small_targets(page) == []
    screenshot(page, f"try-{size[0]}-dark")
