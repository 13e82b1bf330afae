"""What each role may do: the one table of methods and paths."""

import re
from enum import StrEnum


class Role(StrEnum):
    """Of a key. Each role may do all that those before it may."""

    INSPECT = "inspect"
    REVIEW = "review"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether who has this role may do what needs `needed`."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {role: rank for rank, role in enumerate(Role)}
_READ = ("GET", "HEAD")
_MODEL = r"/v2/models/[^/]+(/versions/[^/]+)?"
# A camera's key lies in many a cabinet: it posts images and reads figures, and sees no picture of the past. What is not
# listed needs an admin, so that a route that somebody forgets is closed.
_TABLE: tuple[tuple[Role | None, tuple[str, ...], str], ...] = (
    (None, _READ, r"/livez|/readyz|/healthz|/v2/health/(live|ready)"),
    (None, _READ, r"/docs|/openapi\.json|(/web|/docs/files)/.*"),
    (None, (*_READ, "POST"), r"/sign-in"),
    (None, ("POST",), r"/sign-out"),
    (Role.INSPECT, ("POST",), r"/v1/inspections(:batch)?"),
    (Role.INSPECT, _READ, r"/v1/(engine|engines(/[^/]+/versions/[^/]+)?|statistics|drift)|/metrics"),
    (Role.INSPECT, _READ, rf"/v2|{_MODEL}(/ready)?"),
    (Role.INSPECT, ("POST",), rf"{_MODEL}/infer|/v2/repository/index"),
    (Role.REVIEW, _READ, r"/v1/inspections(\.csv|/[^/]+(/image|/heatmap)?)?|/v1/shadow"),
    (Role.REVIEW, ("POST",), r"/v1/inspections/[^/]+/review"),
    (Role.INSPECT, _READ, r"/(try|statistics|engines(/[^/]+){0,3})"),
    (Role.INSPECT, ("POST",), r"/try"),
    (Role.REVIEW, _READ, r"/|/history(/[^/]+)?"),
    (Role.REVIEW, ("POST",), r"/history/[^/]+/review"),
)
_ROWS = tuple((role, frozenset(methods), re.compile(paths)) for role, methods, paths in _TABLE)


def needed_role(method: str, path: str) -> Role | None:
    """The role that a request needs, by its method and decoded path; None where anybody may ask."""
    return next((role for role, methods, paths in _ROWS if method in methods and paths.fullmatch(path)), Role.ADMIN)
