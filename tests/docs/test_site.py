"""The site as readers get it: built without a warning, whole, and from no other origin."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT, pages

pytest.importorskip("material", reason="MkDocs Material is not installed: pip install -e '.[docs]'")


class _Loaded(HTMLParser):
    """Collects what a page loads or embeds by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(found.get("href") or "")
        elif tag != "a":
            self.loaded += [value for name in ("src", "srcset", "data", "poster") if (value := found.get(name))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    listed = {path for _, path in _leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])}
    written = {page.path.relative_to(ROOT / "docs").as_posix() for page in pages() if page.path.name != "README.md"}
    assert listed >= written
    for path in written:
        target = site / path.removesuffix(".md") / "index.html"
        assert target.is_file() or (site / Path(path).with_suffix(".html")).is_file()


def test_nothing_comes_from_another_origin(site: Path) -> None:
    foreign = {}
    for path in site.rglob("*.html"):
        parser = _Loaded()
        parser.feed(path.read_text())
        if found := [url[:200] for url in parser.loaded if re.match("([a-z]+:)?//", url)]:
            foreign[path.relative_to(site).as_posix()] = found
    assert foreign == {}
    styles = [path for path in site.rglob("*.css") if "url(http" in path.read_text() or "@import" in path.read_text()]
    assert styles == []


def test_every_command_of_the_builder_has_its_options_in_the_site(site: Path) -> None:
    reference = (site / "commands" / "index.html").read_text()
    for flag in ("--corruption", "--keep-fp16", "--from", "--compute-capability", "--plan-only"):
        assert flag in reference


def test_scripts_are_not_part_of_the_site(site: Path) -> None:
    assert list(site.rglob("*.py")) == []


def _leaves(navigation: list[object]) -> list[tuple[str, str]]:
    found = []
    for entry in navigation:
        assert isinstance(entry, dict)
        for title, value in entry.items():
            found += _leaves(value) if isinstance(value, list) else [(title, value)]
    return found
