"""What the documentation says of settings, routes, roles, methods and files is as the code has it."""

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from build_engines.cli import app as builder
from build_engines.methods import METHODS
from engines.bundle import Manifest
from service.app import create_app
from service.security.roles import Role, needed_role
from service.settings import Settings
from tests.docs.blocks import ROOT, Page, pages

DOCS = ROOT / "docs"
_ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)
_OPERATION = re.compile(r"(GET|POST|PUT|DELETE) (/[^\s?]*)")
_METHODS = ("get", "post", "put", "delete")


def rows(page: str) -> list[list[str]]:
    """The tables' cells of a page."""
    return [[cell.strip() for cell in row.split(" | ")] for row in _ROW.findall((DOCS / page).read_text())]


@pytest.fixture(scope="module")
def operations(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Method and path of everything that the API has."""
    settings = Settings(bundle=bundle_folder, data_dir=tmp_path_factory.mktemp("data"), _cli_parse_args=[])
    paths = create_app(settings).openapi()["paths"]
    return {(method.upper(), path) for path, found in paths.items() for method in found if method in _METHODS}


def test_every_setting_is_in_the_table_with_its_flag_and_default() -> None:
    of_the_service = [cells for cells in rows("settings.md") if len(cells) == 4]
    told = {cells[0].strip("`"): cells for cells in of_the_service if cells[0].startswith("`UNISPECT_")}
    assert set(told) == {f"UNISPECT_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        _, flag, default, meaning = told[f"UNISPECT_{name.upper()}"]
        assert flag == f"`--{name.replace('_', '-')}`"
        assert meaning
        value = field.default
        if value is PydanticUndefined:
            assert default == "required"
        elif value is None or value == "":
            # What it then is, in words.
            assert default == "none" or "folder" in default
        else:
            assert default == f"`{value:g}`" if isinstance(value, float) else default == f"`{value}`", name


def test_every_operation_of_the_api_is_in_its_table_with_the_role_it_needs(operations: set[tuple[str, str]]) -> None:
    told = {}
    for cells in rows("api.md"):
        if found := _OPERATION.fullmatch(cells[0].strip("`")):
            told[found[1], found[2]] = cells[1]
    assert told.keys() == operations
    for (method, path), role in told.items():
        needed = needed_role(method, re.sub(r"\{\w+\}", "x", path))
        assert role == ("–" if needed is None else f"`{needed}`"), f"{method} {path}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_operations_that_a_sentence_names_exist(page: Page, operations: set[tuple[str, str]]) -> None:
    known = {(method, re.sub(r"\{\w+\}", "*", path)) for method, path in operations}
    for code in page.in_lines():
        if (found := _OPERATION.match(code)) and found[2].startswith(("/v1/", "/v2/")):
            assert (found[1], re.sub(r"\{\w+\}|\b[A-Z]+\b", "*", found[2])) in known, code


def test_every_command_of_the_builder_is_in_the_table() -> None:
    told = {cells[0].strip("`") for cells in rows("building.md") if re.fullmatch(r"`[a-z-]+`", cells[0])}
    names = {command.name or command.callback.__name__.replace("_", "-") for command in builder.registered_commands}
    assert told >= names


def test_every_method_is_told_of() -> None:
    choosing = (DOCS / "choosing.md").read_text()
    assert [name for name in METHODS if f"`{name}`" not in choosing] == []


def test_every_role_is_told_of() -> None:
    assert {f"`{role}`" for role in Role} <= {cells[0] for cells in rows("security.md")}


def test_every_field_of_the_manifest_is_told_of() -> None:
    assert {f"`{name}`" for name in Manifest.model_fields} <= {cells[0] for cells in rows("building.md")}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Page) -> None:
    for token in page.tokens:
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if not isinstance(target, str) or re.match(r"[a-z]+:|#", target):
                continue
            assert (page.path.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"
