"""The pages for people: rendered from `web/templates`, with what every one of them shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from engines.errors import UnispectError
from service.context import Context, context_of
from service.drift import Direction
from service.exchange import exchange_of
from service.history_answers import time_of
from service.problems import note_problem
from service.security.roles import Role, needed_role

WEB = Path(__file__).parent / "web"
TEMPLATES = "templates"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}
_NAVIGATION = (
    ("Live", "/"),
    ("Try", "/try"),
    ("History", "/history"),
    ("Statistics", "/statistics"),
    ("Engines", "/engines"),
    ("API", "/docs"),
)
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Drifting:
    """A part class whose scores are not as in training, for the line above each page."""

    part_class: str
    direction: Direction
    since: datetime


def render(request: Request, name: str, status: int = 200, /, **values: object) -> HTMLResponse:
    """A page.

    Besides `values` a template has: `request`; `path`; `role`, that of the visitor; `client`, the name of the key of
    the visitor's session or None; `keys_needed`; `navigation`, names and paths of the pages that the visitor may open;
    `drifting`, a list of `Drifting`; `engine` with name, version and backend, or None until it is open; `health`; and
    `problem`, a sentence or None. Who has not signed in learns neither of engine nor drift.

    Args:
        name: of the template's file.
        status: of the answer.
    """
    context, exchange = context_of(request), exchange_of(request.scope)
    keys_needed, role = context.keyring.needed, visitor_role(request)
    shared = {
        "request": request,
        "path": request.url.path,
        "role": role,
        "client": exchange.client if exchange.session else None,
        "keys_needed": keys_needed,
        "navigation": _navigation(role),
        "drifting": _drifting(context) if role is not None else [],
        "engine": _engine(context) if role is not None else None,
        "health": context.health,
        "problem": None,
    }
    content = _environment.get_template(name).render(shared | values)
    return HTMLResponse(content, status, _HEADERS)


def render_refused(request: Request, name: str, error: UnispectError, /, **values: object) -> HTMLResponse:
    """The page again, with the sentence and the status of what was asked of it in vain."""
    return render(request, name, note_problem(request.scope, error), problem=str(error), **values)


def visitor_role(request: Request) -> Role | None:
    """The role of who asks: ADMIN where there are no keys, None for who has not signed in."""
    return exchange_of(request.scope).role if context_of(request).keyring.needed else Role.ADMIN


def number(value: float, digits: int = 4) -> str:
    """With so many significant digits, as 0.01235, 12.35 or 1235."""
    text = f"{value:#.{digits}g}"
    return f"{value:.{digits - 1}e}" if "e" in text else text.rstrip(".")


def share(value: float | None) -> str:
    """A share in [0, 1] in percent: 97.4 %. A dash for None."""
    return "–" if value is None else f"{100 * value:.1f} %"


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds: 4.2 ms. A dash for None."""
    return "–" if seconds is None else f"{1000 * seconds:.1f} ms"


def size(value: float) -> str:
    """A number of bytes: 12.3 MB."""
    for unit in _UNITS[:-1]:
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"


def moment(time: int | datetime) -> Markup:
    """A time of the ledger (microseconds since 1970) or with a zone, in UTC; `web/page.js` puts it in the browser's."""
    when = time_of(time) if isinstance(time, int) else time.astimezone(UTC)
    machine = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}</time>').format(machine, f"{when:%Y-%m-%d %H:%M:%S} UTC")


def _navigation(role: Role | None) -> Sequence[tuple[str, str]]:
    def may_open(path: str) -> bool:
        needed = needed_role("GET", path)
        return needed is None or (role is not None and role.covers(needed))

    return [(name, path) for name, path in _NAVIGATION if may_open(path)]


def _drifting(context: Context) -> list[Drifting]:
    since = context.drift.since
    return [
        Drifting(name, test.direction, since[name])
        for name, test in context.drift.tests.items()
        if test.direction is not None and name in since
    ]


def _engine(context: Context) -> dict[str, str] | None:
    backend = context.inspector.backend_name
    if backend is None:
        return None
    manifest = context.inspector.bundle.manifest
    return {"name": manifest.name, "version": manifest.version, "backend": backend}


def _load() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB / TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(number=number, share=share, milliseconds=milliseconds, moment=moment, bytes=size)
    return environment


_environment = _load()
