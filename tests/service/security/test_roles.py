"""The table of roles: every route of the application is in it on purpose, and what is not there is closed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount

from service.app import create_app
from service.security.roles import Role, needed_role
from service.settings import Settings

# All that needs an admin; a new route appears here, or in the table.
ADMINS = {
    ("POST", "/v1/statistics/reset"),
    ("POST", "/statistics/reset"),
    ("POST", "/v1/engines"),
    ("POST", "/v1/engines/rollback"),
    ("POST", "/v1/engines/x/versions/x/activate"),
    *(("POST", f"/engines/{act}") for act in ("rollback", "upload", "shadow/end")),
    *(("POST", f"/engines/x/versions/x/{act}") for act in ("activate", "delete", "shadow")),
    ("DELETE", "/v1/engines/x/versions/x"),
    ("PUT", "/v1/shadow"),
    ("DELETE", "/v1/shadow"),
    ("POST", "/v2/repository/models/x/load"),
    ("POST", "/v2/repository/models/x/unload"),
}
OPEN = {"/docs", "/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready", "/openapi.json"}
# Where a person gives a key, or forgets a session.
DOORS = {("GET", "/sign-in"), ("POST", "/sign-in"), ("POST", "/sign-out")}


def routes_of(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Mount):
            continue
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes)
            continue
        path = route.path
        if isinstance(route, APIRoute):
            for name in route.param_convertors:
                path = path.replace(f"{{{name}}}", "x")
        for method in route.methods:
            yield method, path


@pytest.fixture(scope="module")
def routes(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    app = create_app(Settings(bundle=bundle_folder, data_dir=tmp_path_factory.mktemp("roles")))
    return set(routes_of(app.routes))


def test_every_route_that_needs_an_admin_is_meant_to(routes: set[tuple[str, str]]) -> None:
    assert len(routes) > 15
    assert {route for route in routes if needed_role(*route) is Role.ADMIN} <= ADMINS


def test_nothing_but_health_documentation_and_the_doors_is_open(routes: set[tuple[str, str]]) -> None:
    opened = {(method, path) for method, path in routes if needed_role(method, path) is None}
    assert {path for _, path in opened - DOORS} <= OPEN
    assert opened >= DOORS
    for path in OPEN:
        assert needed_role("GET", path) is None
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert needed_role(method, path) is Role.ADMIN


def test_what_changes_something_is_not_for_those_who_inspect(routes: set[tuple[str, str]]) -> None:
    inspecting = {path for method, path in routes if method == "POST" and needed_role(method, path) is Role.INSPECT}
    assert inspecting <= {
        "/v1/inspections",
        "/v1/inspections:batch",
        "/try",
        "/v2/models/x/infer",
        "/v2/models/x/versions/x/infer",
        "/v2/repository/index",
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/livez/"),
        ("GET", "//livez"),
        ("GET", "/livez\n"),
        ("GET", "/LIVEZ"),
        ("GET", "/webx"),
        ("GET", "/web"),
        ("GET", "/v1/inspections/x/image/more"),
        ("GET", "/v1/inspectionsxcsv"),
        ("PUT", "/v1/inspections"),
        ("OPTIONS", "/v1/inspections"),
        ("TRACE", "/livez"),
        ("POST", "/v1/engines/../inspections"),
        ("POST", "/v1/inspections/x/review/x"),
        ("GET", "/sign-out"),
        ("GET", "/sign-in/x"),
        ("POST", "/"),
        ("POST", "/history"),
        ("POST", "/statistics/reset"),
        ("POST", "/engines/activate"),
        ("GET", "/history/x/x"),
    ],
)
def test_what_the_table_does_not_name_is_closed(method: str, path: str) -> None:
    assert needed_role(method, path) is Role.ADMIN


def test_each_role_may_do_what_those_before_it_may() -> None:
    assert [[have.covers(need) for need in Role] for have in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
