"""A real Chromium before the real service. All of it ends with this folder's tests: others run event loops."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.security.keys import KeyFile
from service.security.roles import Role
from tests.service.running import RunningServer, running_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_PATIENCE_SECONDS = 20
WIDE, NARROW = (1280, 900), (360, 740)
# A folder: the tests leave screenshots there, to be looked at.
_SCREENSHOTS = os.environ.get("UNISPECT_SCREENSHOTS")


@dataclass
class Browser:
    """Opens pages, and notes what their scripts throw and what their policy refuses."""

    chromium: Any
    troubles: list[str] = field(default_factory=list)
    _contexts: list[Any] = field(default_factory=list)

    def open(
        self,
        url: str,
        *,
        script: bool = True,
        size: tuple[int, int] = WIDE,
        dark: bool = False,
        clock: bool = False,
    ) -> Any:
        """A page of a person's own, loaded; with a `clock` that can be set forward."""
        context = self.chromium.new_context(
            java_script_enabled=script,
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            locale="en-GB",
            timezone_id="Europe/Berlin",
        )
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_SECONDS * 1000)
        # Playwright's own asks by eval, which the pages' policy refuses.
        page.wait_for_function = partial(_wait_for_function, page)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._note)
        if clock:
            page.clock.install()
        page.goto(url)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _note(self, message: Any) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            self.troubles.append(message.text)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """The browser's process."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    """Fails the test where a page's script threw or its policy had to refuse something."""
    opened = Browser(chromium)
    yield opened
    opened.close()
    assert opened.troubles == []


@pytest.fixture(scope="package")
def line(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A service without keys, to which the tests of the pages send parts."""
    with running_server(bundle_folder, tmp_path_factory.mktemp("line")) as running:
        yield running


@dataclass(frozen=True)
class Guarded:
    """A service that wants keys."""

    server: RunningServer
    folder: Path
    keys: dict[Role, str]

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="package")
def guarded_line(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A service with a key of each role, named as its role."""
    folder = tmp_path_factory.mktemp("guarded-line")
    file = KeyFile(folder / "data")
    keys = {role: file.create(str(role), role) for role in Role}
    with running_server(bundle_folder, folder) as running:
        yield Guarded(running, folder / "data", keys)


@pytest.fixture
def check_access() -> Callable[..., None]:
    """Has axe look for what keeps people from using a page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page: Any) -> None:
        found = axe.run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []

    return check


def _wait_for_function(page: Any, expression: str, *, arg: Any = None) -> None:
    """Return once a page's expression, or its function of `arg`, is true."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _evaluate(page, expression, arg):
        assert time.monotonic() < deadline, f"Not so after {_PATIENCE_SECONDS} s: {expression}"
        page.wait_for_timeout(30)


def _evaluate(page: Any, expression: str, arg: Any) -> Any:
    from playwright.sync_api import Error

    try:
        return page.evaluate(expression, arg)
    except Error as error:
        # A page that is just being left.
        if "context was destroyed" not in str(error):
            raise
        return None


def sign_in(page: Any, key: str) -> None:
    """Give the key on the page that asks for it."""
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def send(
    server: RunningServer, picture: bytes, *, key: str | None = None, status: int = 200, **query: str
) -> dict[str, Any]:
    """One inspection by the API."""
    headers = {"Content-Type": "application/octet-stream"} | ({"X-API-Key": key} if key else {})
    response = server.client.post("/v1/inspections", content=picture, params=query, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


def fits(page: Any) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def small_targets(page: Any, besides: Sequence[str] = ()) -> list[str]:
    """What can be pressed and has less than 44 pixels in height, by its text."""
    return page.evaluate(
        """(besides) => [...document.querySelectorAll("button, select, .button, nav a, .tile, input")]
        .filter((one) => !besides.some((selector) => one.matches(selector)))
        .map((one) => [one.matches("input") ? one.closest("label") ?? one : one, one])
        .filter(([box]) => box.offsetParent !== null && box.getBoundingClientRect().height < 43.5)
        .map(([, one]) => one.outerHTML.slice(0, 120))""",
        list(besides),
    )


def screenshot(page: Any, name: str) -> None:
    """Leave a picture of the whole page where the variable UNISPECT_SCREENSHOTS says."""
    if _SCREENSHOTS:
        page.screenshot(path=Path(_SCREENSHOTS) / f"{name}.png", full_page=True)
