"""The engines page: what there is, how far others are, and, for admins alone, another one into service."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import bundle as bundles
from engines import signatures
from service.security.roles import Role
from tests.service.pages.conftest import (
    NARROW,
    WIDE,
    Browser,
    Guarded,
    fits,
    screenshot,
    send,
    sign_in,
    small_targets,
)
from tests.service.running import RunningServer, running_server
from tests.service.security.conftest import lines
from tests.service.test_engines import ZIP, archive, version_of
from tests.service.test_first_boot import MEANWHILE, compilers, first_boot

PAGE = "/engines"
HTML = {"Accept": "text/html"}
LIMIT = 400_000


@pytest.fixture
def two(bundle_folder: Path, tmp_path: Path) -> Path:
    """The bundle as version `two`, which fails what has half the other's threshold, and more."""
    return version_of(bundle_folder, tmp_path / "two", "two", 0.5)


@pytest.fixture
def own_line(bundle_folder: Path, tmp_path: Path) -> Iterator[RunningServer]:
    """A service whose engines a test may change; images have to be small, bundles need not."""
    with running_server(bundle_folder, tmp_path / "line", "--max-body-bytes", str(LIMIT)) as server:
        yield server


def name_of(folder: Path) -> str:
    manifest = bundles.load(folder).manifest
    return f"{manifest.name} {manifest.version}"


def path_of(folder: Path, act: str) -> str:
    manifest = bundles.load(folder).manifest
    return f"{PAGE}/{manifest.name}/versions/{manifest.version}/{act}"


def fields_of(folder: Path) -> dict[str, str]:
    manifest = bundles.load(folder).manifest
    return {"name": manifest.name, "version": manifest.version}


def upload(server: RunningServer, folder: Path) -> None:
    assert server.client.post("/v1/engines", content=archive(folder), headers=ZIP).status_code == 201


def serves(server: RunningServer) -> str:
    answer = server.client.get("/v1/engine").json()
    return f"{answer['name']} {answer['version']}"


def card(page: Any, name: str) -> Any:
    return page.locator(".engine", has=page.get_by_role("link", name=name, exact=True))


def test_an_admin_changes_engines_without_script(
    own_line: RunningServer, browser: Browser, bundle_folder: Path, two: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    first, second = name_of(bundle_folder), name_of(two)
    content = archive(two)
    assert len(content) > LIMIT
    file = tmp_path / "two.zip"
    file.write_bytes(content)
    page = browser.open(own_line.url + PAGE, script=False)
    page.get_by_label("Bundle").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    assert page.url == f"{own_line.url}{PAGE}/{second.replace(' ', '/versions/')}"
    assert page.get_by_role("heading", level=1).inner_text().strip() == second
    assert serves(own_line) == first

    page.get_by_role("link", name="All engines").click()
    card(page, second).get_by_role("button", name="Activate").click()
    assert page.url == own_line.url + PAGE
    assert serves(own_line) == second
    assert card(page, second).get_by_text("serves", exact=True).is_visible()
    page.get_by_role("button", name=f"Roll back to {first}").click()
    assert serves(own_line) == first
    assert page.get_by_role("button", name="Roll back").count() == 0

    card(page, second).get_by_role("button", name="Make it the shadow").click()
    verdicts = [send(own_line, picture)["verdict"] for picture in pictures[:6]]
    assert "pass" in verdicts
    shadow = own_line.client.get
    own_line.wait_for(lambda: sum(shadow("/v1/shadow").json()[one] for one in ("inspections", "skipped")) >= 1)
    page.get_by_role("button", name="End the shadow").click()
    assert own_line.client.get("/v1/shadow").json()["engine"] is None

    card(page, second).get_by_text("Delete …").click()
    card(page, second).get_by_role("button", name="Delete it for good").click()
    assert page.url == own_line.url + PAGE
    assert [one["version"] for one in own_line.client.get("/v1/engines").json()["engines"]] == [first.split()[1]]
    assert page.get_by_text(second).count() == 0


def test_the_page_shows_what_each_engine_is(
    own_line: RunningServer, browser: Browser, bundle_folder: Path, tmp_path: Path, check_access: Callable[[Any], None]
) -> None:
    measured = {"backend": "openvino", "image_auroc": 0.9876, "false_reject": 0.0123, "miss": 0.25}
    better = version_of(bundle_folder, tmp_path / "better", "better")
    manifest = bundles.load(better).manifest
    review = bundles.Review(rate=0.05, threshold=manifest.part_classes[0].threshold / 2)
    parts = [manifest.part_classes[0].model_copy(update={"review": review}), *manifest.part_classes[1:]]
    changes = {"metrics": {"test": measured}, "part_classes": parts}
    bundles.save_manifest(better, manifest.model_copy(update=changes))
    upload(own_line, better)
    page = browser.open(own_line.url + PAGE)
    shown = card(page, name_of(better))
    for text in ("0.988", "1.2 %", "25.0 %", manifest.method, manifest.precision, "not signed"):
        assert text in shown.inner_text(), text
    assert "Not evaluated" in card(page, name_of(bundle_folder)).inner_text()
    shown.get_by_text("Thresholds of").click()
    for part in parts:
        assert f"{part.threshold:.4g}" in shown.inner_text()
    assert f"{review.threshold:.4g}" in shown.inner_text()
    for size, dark in ((WIDE, False), (WIDE, True), (NARROW, False)):
        page = browser.open(own_line.url + PAGE, size=size, dark=dark)
        card(page, name_of(better)).get_by_text("Thresholds of").click()
        check_access(page)
        assert fits(page)
        assert small_targets(page) == []
        screenshot(page, f"engines-{size[0]}-{'dark' if dark else 'light'}")
    page.get_by_role("link", name=name_of(better), exact=True).click()
    assert "0.988" in page.inner_text("main")
    check_access(page)
    assert fits(page)
    screenshot(page, "engine-360-light")


def test_the_shadow_is_shown_where_it_disagrees(
    own_line: RunningServer,
    browser: Browser,
    bundle_folder: Path,
    tmp_path: Path,
    pictures: list[bytes],
    check_access: Callable[[Any], None],
) -> None:
    strict = version_of(bundle_folder, tmp_path / "strict", "strict", 1e-6)
    upload(own_line, strict)
    own_line.client.put("/v1/shadow", json=fields_of(strict)).raise_for_status()
    given = []
    for count, picture in enumerate(pictures[:8], start=1):
        given.append(send(own_line, picture))
        own_line.wait_for(lambda wanted=count: own_line.client.get("/v1/shadow").json()["inspections"] == wanted)
    passed = [one for one in given if one["verdict"] == "pass"]
    assert passed
    page = browser.open(own_line.url + PAGE)
    links = page.get_by_label("Newest disagreements").get_by_role("link")
    # The ledger takes the shadow's verdicts when it has time.
    own_line.wait_for(lambda: page.reload() and links.count() == len(passed))
    found = [link.get_attribute("href") for link in links.all()]
    assert found == [f"/history/{one['id']}" for one in reversed(passed)]
    agreement = page.get_by_label("Agreement by part class")
    for part_class in {one["part_class"] for one in passed}:
        images = sum(one["part_class"] == part_class for one in given)
        others = sum(one["part_class"] == part_class for one in passed)
        row = agreement.get_by_role("row").filter(has=page.get_by_role("rowheader", name=part_class, exact=True))
        assert [cell.inner_text() for cell in row.get_by_role("cell").all()] == [
            str(images),
            f"{others} ({100 * others / images:.1f} %)",
            f"{others} × ✓ PASS → ✕ FAIL",
        ]
    check_access(page)
    screenshot(page, "engines-shadow")

    database = sqlite3.connect(tmp_path / "line" / "data" / "ledger.sqlite3")
    database.execute("DROP TABLE shadow_inspections")
    database.close()
    page.reload()
    assert "The ledger cannot be read now" in page.inner_text("main")
    assert card(page, name_of(strict)).is_visible()


@pytest.mark.parametrize("role", [Role.INSPECT, Role.REVIEW])
def test_only_an_admin_changes_engines(guarded_line: Guarded, browser: Browser, two: Path, role: Role) -> None:
    page = browser.open(guarded_line.url + PAGE)
    sign_in(page, guarded_line.keys[role])
    page.goto(guarded_line.url + PAGE)
    assert page.get_by_role("heading", name="Engines", level=1).is_visible()
    before = guarded_line.server.client.get("/v1/engines", headers={"X-API-Key": guarded_line.keys[role]}).json()
    (engine,) = before["engines"]
    path = f"{PAGE}/{engine['name']}/versions/{engine['version']}"
    for address in (PAGE, path):
        page.goto(guarded_line.url + address)
        assert page.locator("main").locator("form, button, .button").count() == 0
    headers = {"X-API-Key": guarded_line.keys[role], **HTML}
    for act in (f"{path}/activate", f"{path}/delete", f"{path}/shadow", f"{PAGE}/rollback", f"{PAGE}/shadow/end"):
        refused = guarded_line.server.client.post(act, headers=headers)
        assert refused.status_code == 403, act
    files = {"file": ("two.zip", archive(two))}
    assert guarded_line.server.client.post(f"{PAGE}/upload", files=files, headers=headers).status_code == 403
    after = guarded_line.server.client.get("/v1/engines", headers=headers).json()
    assert after == before


def test_what_an_admin_does_on_the_page_is_audited(guarded_line: Guarded, browser: Browser) -> None:
    page = browser.open(guarded_line.url + PAGE)
    sign_in(page, guarded_line.keys[Role.ADMIN])
    page.goto(guarded_line.url + PAGE)
    file = {"name": "no.zip", "mimeType": "application/zip", "buffer": b"no archive"}
    page.get_by_label("Bundle").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    assert "The archive cannot be read" in page.get_by_role("alert").inner_text()
    wanted = {"logger": "service.audit", "client": "admin", "path": f"{PAGE}/upload", "outcome": "invalid-archive"}
    guarded_line.server.wait_for(lambda: len(lines(guarded_line.server, **wanted)) == 1)
    assert lines(guarded_line.server, **wanted)[0]["status"] == 422


def test_what_is_wrong_is_said_on_the_page(line: RunningServer, bundle_folder: Path) -> None:
    def post(path: str, **sent: Any) -> tuple[int, str]:
        answer = line.client.post(path, headers=HTML, **sent)
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        return answer.status_code, answer.text

    add = f"{PAGE}/upload"
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        (f"{PAGE}/none/versions/1/activate", {}, 404, "There is no engine none 1"),
        (f"{PAGE}/%3Cscript%3E/versions/1/activate", {}, 404, "&lt;script&gt;"),
        (f"{PAGE}/%2e%2e/versions/x/delete", {}, 404, "No engine is called"),
        (f"{PAGE}/none/versions/1/shadow", {}, 404, "There is no engine none 1"),
        (f"{PAGE}/rollback", {}, 404, "No engine served before"),
        (path_of(bundle_folder, "delete"), {}, 409, "is in use"),
        (add, {"files": {"file": ("", b"")}}, 422, "No file was chosen"),
        (add, {"files": {"other": ("a.zip", b"a")}}, 422, "No file was chosen"),
        (add, {"data": {"file": "text"}}, 415, "is no form"),
        (add, {"files": {"file": ("a.zip", b"no archive")}}, 422, "The archive cannot be read"),
        (add, {"files": [("file", ("a", b"a")), ("file", ("b", b"b"))]}, 422, "The form is not valid"),
    ]
    for path, sent, status, sentence in cases:
        answered, text = post(path, **sent)
        assert (answered, sentence in text) == (status, True), (path, answered, text)
        assert "<script>" not in text
    unknown = line.client.get(f"{PAGE}/%3Cscript%3E/versions/x", headers=HTML)
    assert (unknown.status_code, "<script>" in unknown.text, "&lt;script&gt;" in unknown.text) == (404, False, True)
    folder = line.log.parent / "data" / "engines"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_an_upload_above_the_limit_is_refused_before_it_is_read(bundle_folder: Path, tmp_path: Path) -> None:
    with running_server(bundle_folder, tmp_path, "--max-bundle-bytes", str(2**20)) as server:
        files = {"file": ("a.zip", b"x" * (2**20 + 1))}
        refused = server.client.post(f"{PAGE}/upload", files=files, headers=HTML)
        assert (refused.status_code, "above 1048576 bytes" in refused.text) == (413, True)


def test_texts_of_a_bundle_are_no_markup(
    own_line: RunningServer, browser: Browser, bundle_folder: Path, tmp_path: Path, signing_key: Path
) -> None:
    hostile = "<img src=x onerror=document.title='hostile'>"
    folder = version_of(bundle_folder, tmp_path / "hostile", "hostile")
    manifest = bundles.load(folder).manifest
    bundles.save_manifest(folder, manifest.model_copy(update={"method": hostile}))
    signatures.sign(folder, signing_key)
    path = folder / signatures.SIGNATURE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": hostile}))
    upload(own_line, folder)
    page = browser.open(own_line.url + PAGE)
    assert hostile in page.inner_text("main")
    page.get_by_role("link", name=name_of(folder), exact=True).click()
    assert hostile in page.inner_text("main")
    assert page.locator("main img").count() == 0
    assert "hostile'" not in page.title()


def test_an_altered_engine_is_shown_and_can_be_deleted(
    own_line: RunningServer, browser: Browser, two: Path, tmp_path: Path
) -> None:
    upload(own_line, two)
    kept = fields_of(two)
    manifest = tmp_path / "line" / "data" / "engines" / kept["name"] / kept["version"] / bundles.MANIFEST
    manifest.write_text("{}")
    page = browser.open(own_line.url + PAGE, script=False)
    broken = card(page, name_of(two))
    assert "It cannot be used" in broken.inner_text()
    assert broken.get_by_role("button", name="Activate").count() == 0
    broken.get_by_role("link").click()
    assert "It cannot be used" in page.inner_text("main")
    page.get_by_text("Delete …").click()
    page.get_by_role("button", name="Delete it for good").click()
    assert not manifest.parent.exists()


def test_the_first_build_is_followed_by_the_page_itself(
    bundle_folder: Path, browser: Browser, tmp_path: Path, check_access: Callable[[Any], None]
) -> None:
    go = tmp_path / "go"
    with first_boot(bundle_folder, tmp_path, f"waits={go}") as server:
        server.wait_for(lambda: "(compiling, 25%)" in server.client.get("/readyz").text)
        plain = browser.open(server.url + PAGE, script=False)
        assert "25 %" in plain.inner_text("main")
        assert plain.locator("meta[http-equiv=refresh]").count() == 1
        page = browser.open(server.url + PAGE)
        assert page.get_by_role("progressbar").get_attribute("value") == "0.25"
        text = page.inner_text("main")
        assert f"{name_of(bundle_folder)} is opened to serve" in text
        assert "the compiler's own words" in text
        assert "compiling the engine" in text
        assert "is to serve" in card(page, name_of(bundle_folder)).inner_text()
        check_access(page)
        screenshot(page, "engines-building")
        page.wait_for_function("before => document.querySelector('main').innerText !== before", arg=text)
        go.touch()
        server.wait_ready()
        page.get_by_role("progressbar").wait_for(state="detached")
        assert "serves" in card(page, name_of(bundle_folder)).inner_text()


def test_a_build_that_failed_is_told_while_another_backend_serves(bundle_folder: Path, tmp_path: Path) -> None:
    with first_boot(bundle_folder, tmp_path, "spoils", *MEANWHILE) as server:
        server.wait_ready()
        server.wait_for(lambda: "could not be compiled" in str(server.client.get("/readyz").json()["reason"]))
        text = server.client.get(PAGE, headers=HTML).text
        assert f"{name_of(bundle_folder)} could not be opened to serve" in text
        assert "disagrees with the CPU on the golden image" in text
        assert "compiler&#39;s own words" in text
        assert 'data-busy="false"' in text


def test_a_change_that_takes_minutes_is_followed_and_its_end_is_told(
    bundle_folder: Path, float_bundle_folder: Path, browser: Browser, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    slow = version_of(float_bundle_folder, tmp_path / "slow", "slow")
    other = version_of(bundle_folder, tmp_path / "other", "other")
    with first_boot(bundle_folder, tmp_path, f"waits={go}") as server:
        server.wait_ready()
        for folder in (slow, other):
            upload(server, folder)
        go.unlink()
        page = browser.open(server.url + PAGE)
        card(page, name_of(slow)).get_by_role("button", name="Activate").click()
        page.get_by_role("progressbar").wait_for()
        assert "is about to serve" in card(page, name_of(slow)).inner_text()
        assert card(page, name_of(other)).get_by_role("button", name="Activate").is_disabled()
        for act, folder, sentence in (("delete", slow, "is in use"), ("activate", other, "is being activated")):
            refused = server.client.post(path_of(folder, act), headers=HTML)
            assert (refused.status_code, sentence in refused.text) == (409, True), act
        server.wait_for(lambda: "(compiling, 25%)" in server.client.get("/readyz").text)
        page.get_by_text("25 %").first.wait_for()
        (compiler,) = compilers(server)
        compiler.kill()
        server.wait_for(lambda: server.client.get("/v1/engines").json()["activating"] is None)
        failed = page.get_by_role("heading", name="The latest change failed")
        failed.wait_for()
        text = page.inner_text("main")
        assert "The compiler was killed (SIGKILL)" in text
        assert "the compiler's own words" in text
        assert serves(server) == name_of(bundle_folder)
        screenshot(page, "engines-failed")

        card(page, name_of(slow)).get_by_role("button", name="Make it the shadow").click()
        page.get_by_role("progressbar").wait_for()
        refused = server.client.put("/v1/shadow", json=fields_of(other))
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:unispect:problem:activation-running")
        assert server.client.post(path_of(slow, "delete"), headers=HTML).status_code == 409
        go.touch()
        server.wait_for(lambda: server.client.get("/v1/shadow").json()["backend"] == "tensorrt")
        page.get_by_role("progressbar").wait_for(state="detached")
        assert failed.count() == 0


def test_a_page_whose_service_is_gone_says_so_and_comes_back(
    bundle_folder: Path, browser: Browser, tmp_path: Path
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        page = browser.open("about:blank")
        page.clock.install()
        page.goto(server.url + PAGE)
        connection = page.locator("#connection")
        page.route(f"**{PAGE}", lambda route: route.abort())
        page.clock.run_for(16_000)
        connection.wait_for(state="visible")
        assert "does not answer" in connection.inner_text()
        page.unroute(f"**{PAGE}")
        upload(server, version_of(bundle_folder, tmp_path / "new", "new"))
        page.clock.run_for(16_000)
        connection.wait_for(state="hidden")
        page.get_by_role("link", name=f"{bundles.load(bundle_folder).manifest.name} new", exact=True).wait_for()
