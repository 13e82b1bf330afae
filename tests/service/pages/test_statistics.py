"""The statistics in a real browser."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.filled_ledger import fill
from engines.bundle import Manifest
from service.security.roles import Role
from tests.service.pages.conftest import NARROW, WIDE, Browser, Guarded, fits, screenshot, send, sign_in, small_targets
from tests.service.running import RunningServer, running_server

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def busy_line(bundle_folder: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service after a thousand parts of each class of its engine, and of one that it no longer knows."""
    folder = tmp_path_factory.mktemp("busy-line")
    (folder / "data").mkdir()
    fill(folder / "data", [*(part.name for part in manifest.part_classes), "once"], 2500, 20)
    with running_server(bundle_folder, folder) as running:
        yield running


def table(page: Any, name: str) -> list[list[str]]:
    """The cells of the table in the part of the page that is so named."""
    found = page.get_by_role("region", name=name).locator("tbody tr")
    return [row.locator("th, td").all_inner_texts() for row in found.all()]


def test_the_figures_are_those_of_the_api(
    busy_line: RunningServer, browser: Browser, manifest: Manifest, check_access: Callable[..., None]
) -> None:
    api = busy_line.client.get("/v1/statistics").json()
    page = browser.open(f"{busy_line.url}/statistics")
    facts = page.locator(".facts").first.inner_text()
    assert f"{api['inspections']}" in facts
    assert f"{100 * api['pass_rate']:.1f} %" in facts
    assert f"{api['execution_ms']['median']:.1f} ms" in facts
    shown = {row[0]: row[1:] for row in table(page, "Part classes")}
    assert set(shown) == {part.name for part in manifest.part_classes} | {"once (of another engine)"}
    for name, counts in api["part_classes"].items():
        row = next(row for label, row in shown.items() if label.startswith(name))
        assert row[:4] == [str(sum(counts.values())), *(str(counts.get(one, 0)) for one in ("pass", "review", "fail"))]
    stages = table(page, "Latency by stage")
    assert [row[0] for row in stages] == ["Decoding", "Waiting", "Network", "Verdict and heatmap", "Altogether"]
    assert all(re.fullmatch(r"\d+\.\d ms", cell) for row in stages for cell in row[1:])
    screenshot(page, "statistics")
    check_access(page)


def test_the_bars_are_all_inspections_of_their_class_on_both_sides_of_the_threshold(
    busy_line: RunningServer, browser: Browser
) -> None:
    api = busy_line.client.get("/v1/statistics").json()["part_classes"]
    page = browser.open(f"{busy_line.url}/statistics")
    figures = page.locator("figure").all()
    assert len(figures) == len(api)
    for figure in figures:
        counts = api[figure.locator("strong").inner_text()]
        threshold = float(figure.locator(".limit:not(.review)").get_attribute("x1"))
        drawn: dict[str, int] = {}
        for bar in figure.locator("rect").all():
            count, verdict = bar.locator("title").text_content().split()
            drawn[verdict] = drawn.get(verdict, 0) + int(count)
            assert (float(bar.get_attribute("x")) > threshold) == (verdict == "fail")
        assert drawn == counts


def test_a_count_leads_to_its_inspections(busy_line: RunningServer, browser: Browser) -> None:
    page = browser.open(f"{busy_line.url}/statistics")
    fails = page.get_by_role("region", name="Part classes").locator("a[href*='verdict=fail']").first
    count = int(fails.inner_text())
    fails.click()
    page.wait_for_url("**/history?**")
    assert page.locator("tbody tr").count() == min(count, 50) > 0


def test_drift_is_told_of_each_class(line: RunningServer, browser: Browser, picture: bytes) -> None:
    send(line, picture)
    page = browser.open(f"{line.url}/statistics#drift")
    told = {one["part_class"]: one for one in line.client.get("/v1/drift").json()["part_classes"]}
    shown = table(page, "Drift")
    assert [row[0] for row in shown] == list(told)
    for name, state, statistic, parts in shown:
        assert "as in training" in state
        assert (float(statistic), int(parts)) == (
            pytest.approx(told[name]["statistic"], abs=0.005),
            told[name]["parts"],
        )


def test_a_reset_begins_anew_and_takes_two_presses(
    bundle_folder: Path, tmp_path: Path, browser: Browser, picture: bytes, check_access: Callable[..., None]
) -> None:
    with running_server(bundle_folder, tmp_path) as server:
        empty = browser.open(f"{server.url}/statistics")
        assert "There is no inspection yet" in empty.inner_text("main")
        check_access(empty)
        send(server, picture)
        page = browser.open(f"{server.url}/statistics", script=False)
        assert "never" in page.locator(".facts").first.inner_text()
        button = page.get_by_role("button", name="Reset the statistics")
        assert not button.is_visible()
        page.locator("summary").press("Enter")
        with page.expect_navigation():
            button.click()
        assert page.url == f"{server.url}/statistics"
        assert "never" not in page.locator(".facts").first.inner_text()
        assert server.client.get("/v1/statistics").json()["inspections"] == 0
        assert len(server.client.get("/v1/inspections").json()["inspections"]) == 1


@pytest.mark.parametrize(("size", "dark"), [(NARROW, False), (NARROW, True), (WIDE, True)])
def test_the_page_fits_and_is_readable(
    busy_line: RunningServer,
    browser: Browser,
    size: tuple[int, int],
    dark: bool,
    check_access: Callable[..., None],
) -> None:
    page = browser.open(f"{busy_line.url}/statistics", size=size, dark=dark)
    assert fits(page)
    assert small_targets(page) == []
    screenshot(page, f"statistics-{size[0]}-{dark}")
    check_access(page)


def test_only_an_admin_resets(guarded_line: Guarded, browser: Browser) -> None:
    page = browser.open(f"{guarded_line.url}/statistics")
    sign_in(page, guarded_line.keys[Role.INSPECT])
    page.get_by_role("region", name="Drift").wait_for()
    assert page.locator("summary").count() == 0
    for role, status in (Role.INSPECT, 403), (Role.REVIEW, 403), (Role.ADMIN, 303):
        headers = {"X-API-Key": guarded_line.keys[role], **HTML}
        assert guarded_line.server.client.post("/statistics/reset", headers=headers).status_code == status


def test_what_takes_long_to_count_is_shown_as_far_as_it_is(
    bundle_folder: Path, tmp_path: Path, browser: Browser
) -> None:
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data", ["a", "b"], 30_000, 0)
    script = "import sys; import service.routes.pages.statistics as page; page._COUNTING_SECONDS = 0.0; "
    program = ("-c", script + "from service.__main__ import main; sys.exit(main())")
    with running_server(bundle_folder, tmp_path, program=(sys.executable, *program)) as server:
        page = browser.open(f"{server.url}/statistics", script=False)
        assert "10000 inspections are counted so far" in page.inner_text("main")
        # It comes again by itself.
        page.get_by_text("counted so far").wait_for(state="detached")
        assert "30000" in page.locator(".facts").first.inner_text()
