"""The pages as documents: what they load, what they lead to, and what they say when something is wrong."""

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from engines.conformal import p_value
from engines.scoring import Inspection
from service.app import create_app
from service.context import Context
from service.jobs import Result
from service.settings import Settings
from service.timing import Timing
from tests.service.running import RunningServer

PAGES = ["/", "/try", "/history", "/statistics", "/engines"]
HTML = {"Accept": "text/html"}


@pytest.mark.parametrize("path", [*PAGES, "/docs"])
def test_a_page_loads_nothing_from_elsewhere(server: RunningServer, path: str) -> None:
    response = server.client.get(path)
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', response.text)
    assert len(loaded) >= 3
    for address in loaded:
        assert address.startswith("/")
        assert server.client.get(address.replace("&amp;", "&")).status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_script_and_no_style_of_its_own(server: RunningServer, path: str) -> None:
    response = server.client.get(path)
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "no-store"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", response.text)


@pytest.mark.parametrize("path", PAGES)
def test_the_links_of_a_page_lead_somewhere(server: RunningServer, path: str) -> None:
    links = re.findall(r'<a [^>]*href="([^"#]+)[^"]*"', server.client.get(path).text)
    assert len(links) >= len(PAGES)
    for address in links:
        assert server.client.get(address.replace("&amp;", "&")).status_code == 200, address


def test_templates_are_no_files_of_the_web(server: RunningServer) -> None:
    for path in ("templates/base.html", "templates", "./templates/base.html", "%2e/templates/base.html"):
        assert server.client.get(f"/web/{path}").status_code == 404


def test_a_script_is_asked_for_anew_and_not_sent_again(server: RunningServer) -> None:
    first = server.client.get("/web/page.js")
    assert first.headers["cache-control"] == "no-cache"
    again = server.client.get("/web/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == HTTPStatus.NOT_MODIFIED


def test_a_problem_is_shown_to_a_person_and_documented_to_a_program(server: RunningServer) -> None:
    for path in ("/nothing", "/history/nothing", "/?station=%00", "/v1/inspections?limit=0"):
        page, document = server.client.get(path, headers=HTML), server.client.get(path)
        assert page.status_code == document.status_code >= 400
        assert page.headers["content-type"].startswith("text/html")
        assert len(page.headers.get_list("content-security-policy")) == 1
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert document.headers["content-type"] == "application/problem+json"
        assert page.headers["x-request-id"] in page.text


def test_the_sentence_of_a_problem_is_text_and_never_markup(server: RunningServer) -> None:
    page = server.client.get("/<script>alert(1)</script>", headers=HTML)
    assert "&lt;script&gt;alert" in page.text and "<script>alert" not in page.text


@dataclass
class Asleep:
    """A service that was made and not started: no engine is open, and its ledger has no tables."""

    app: FastAPI

    @property
    def context(self) -> Context:
        return self.app.state.context

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=HTML) as client:
                return await client.get(path)

        return asyncio.run(ask())


@pytest.fixture
def asleep(bundle_folder: Path, tmp_path: Path) -> Asleep:
    return Asleep(create_app(Settings(bundle=bundle_folder, data_dir=tmp_path)))


def test_who_comes_too_early_is_told_how_far_it_is(asleep: Asleep) -> None:
    page = asleep.get("/try")
    assert page.status_code == 200
    assert "The engine is not ready (starting)" in page.text


def test_without_a_ledger_the_pages_say_so(asleep: Asleep) -> None:
    for path in ("/", "/history"):
        page = asleep.get(path)
        assert page.status_code == 503
        assert re.search(r'role="alert">The ledger cannot be read now', page.text)


def test_an_error_that_nobody_foresaw_is_a_page_too(asleep: Asleep, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("the inside")

    monkeypatch.setattr(asleep.context.history, "page", fail)
    page = asleep.get("/")
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert page.headers["x-request-id"] in page.text and "the inside" not in page.text


def test_a_problem_that_no_page_can_show_is_a_document(asleep: Asleep, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("the inside")

    monkeypatch.setattr("service.templates._drifting", fail)
    answer = asleep.get("/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "/nothing" in answer.json()["detail"]


def test_drift_is_said_on_every_page(asleep: Asleep) -> None:
    monitor = asleep.context.drift
    name, running = next(iter(monitor.tests.items()))
    part = next(part for part in asleep.context.inspector.bundle.manifest.part_classes if part.name == name)
    lowest = p_value(np.sort(np.array(part.good_scores, np.float32)), part.pass_limit)
    assert "not as in training" not in asleep.get("/try").text
    for _ in range(500):
        monitor.observe(passed(asleep, name, lowest))
        if running.drifting:
            break
    page = asleep.get("/try").text
    assert f"{name} is not as in training: its scores are higher" in page
    assert 'href="/statistics#drift"' in page


def passed(client: Asleep, part_class: str, p: float) -> Result:
    """An inspection of the engine that serves, which passed with this p-value."""
    manifest = client.context.inspector.bundle.manifest
    inspection = Inspection(
        score=1.0,
        threshold=1.0,
        verdict="pass",
        p_value=p,
        part_class=part_class,
        part_class_source="given",
        unknown_part=False,
        regions=(),
        anomaly_map=np.zeros((1, 1), np.float32),
    )
    engine = {"name": manifest.name, "version": manifest.version, "precision": "int8", "backend": "openvino"}
    return Result(inspection, 10, 10, None, Timing(), engine)
