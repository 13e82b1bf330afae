"""/history: past inspections in pages, and one of them with what people say of it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from engines.errors import UnispectError
from service.context import Context, context_of
from service.errors import InvalidForm, LedgerFailed
from service.forms import read_fields
from service.history import Entry, History, Review
from service.history_answers import microseconds_of, time_of
from service.routes.history import FilterQuery
from service.routes.pages.live import review_threshold
from service.routes.reviews import ReviewBody, give_review
from service.templates import render, render_refused

router = APIRouter(include_in_schema=False)
_TEMPLATE, _DETAIL_TEMPLATE = "history.html", "inspection.html"
_LIMIT = 50


class _PageQuery(FilterQuery):
    """The filter, and the inspection that the page comes after or before."""

    after: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    before: str | None = Field(None, pattern="^[0-9a-f]{32}$")


@dataclass(frozen=True, slots=True)
class _Page:
    """Inspections, and whether there may be newer and older ones of the filter."""

    entries: list[Entry]
    newer: bool
    older: bool

    @classmethod
    def read(cls, history: History, query: _PageQuery) -> Self:
        wanted = query.filter()
        if query.before is not None:
            entries = history.page(wanted, _LIMIT + 1, before=query.before)
            if len(entries) > _LIMIT:
                return cls(entries[1:], newer=True, older=True)
        # So few are newer that the newest page has them all.
        after = query.after if query.before is None else None
        entries = history.page(wanted, _LIMIT + 1, after)
        return cls(entries[:_LIMIT], newer=after is not None, older=len(entries) > _LIMIT)


@router.get("/history")
async def history(request: Request) -> Response:
    context, given = context_of(request), _given(request)
    query: _PageQuery | None = None
    problem: InvalidForm | None = None
    try:
        query = _PageQuery.model_validate(given)
    except ValidationError as error:
        problem = _wrong_filter(error)

    def read() -> tuple[_Page, list[str], list[str]]:
        page = _Page([], newer=False, older=False) if query is None else _Page.read(context.history, query)
        return page, context.history.part_classes(), context.history.stations()

    page, part_classes, stations = await context.reading.run(read)
    filters = _filters(given)
    known = (part.name for part in context.inspector.bundle.manifest.part_classes)
    values = {
        "page": page,
        "form": _form(given, query),
        "filters": _suffix(filters),
        "newer": _suffix(filters | {"before": page.entries[0].record.id} if page.entries else filters),
        "older": _suffix(filters | {"after": page.entries[-1].record.id} if page.entries else filters),
        "part_classes": sorted({*part_classes, *known}),
        "stations": stations,
    }
    if problem is not None:
        return render_refused(request, _TEMPLATE, problem, **values)
    return render(request, _TEMPLATE, HTTPStatus.OK, **values)


@router.get("/history/{id}")
async def inspection(request: Request, id: str) -> Response:
    return await _inspection(request, id)


@router.post("/history/{id}/review")
async def review(request: Request, id: str) -> Response:
    fields = await read_fields(request)
    note = fields.get("note", "").strip()
    try:
        await give_review(request, id, _review(fields.get("label"), note or None))
    except (InvalidForm, LedgerFailed) as error:
        return await _inspection(request, id, error, note)
    return RedirectResponse(f"/history/{id}{_suffix(_filters(_given(request)))}#reviews", HTTPStatus.SEE_OTHER)


@dataclass(frozen=True, slots=True)
class _Detail:
    """One inspection, its reviews, those beside it in the filter, and what is kept of its picture."""

    entry: Entry
    reviews: list[Review]
    newer: str | None
    older: str | None
    has_picture: bool
    has_map: bool

    @classmethod
    def read(cls, context: Context, inspection_id: str, query: FilterQuery) -> Self:
        entry = context.history.entry(inspection_id)
        recent = context.recent.find(inspection_id) is not None
        folder, wanted = context.pictures.folder, query.filter()
        newer = context.history.page(wanted, 1, before=inspection_id)
        older = context.history.page(wanted, 1, after=inspection_id)
        return cls(
            entry,
            context.history.reviews(inspection_id),
            newer[0].record.id if newer else None,
            older[0].record.id if older else None,
            recent or folder.has_picture(entry.record.image_sha256),
            recent or folder.has_map(inspection_id),
        )


async def _inspection(
    request: Request, inspection_id: str, problem: UnispectError | None = None, note: str = ""
) -> Response:
    context, filters = context_of(request), _filters(_given(request))
    try:
        query = FilterQuery.model_validate(filters)
    except ValidationError as error:
        raise _wrong_filter(error) from error
    detail = await context.reading.run(_Detail.read, context, inspection_id, query)
    values = {
        "detail": detail,
        "filters": _suffix(filters),
        "note": note,
        "review_threshold": review_threshold(context, detail.entry.record.engine, detail.entry.record.part_class),
    }
    if problem is not None:
        return render_refused(request, _DETAIL_TEMPLATE, problem, **values)
    return render(request, _DETAIL_TEMPLATE, HTTPStatus.OK, **values)


def _given(request: Request) -> dict[str, str]:
    """The parameters; a form sends those that nobody filled in empty."""
    return {name: value for name, value in request.query_params.items() if value}


def _form(given: Mapping[str, str], query: FilterQuery | None) -> dict[str, str]:
    """What the form's fields hold; what was wrong stays, to be mended."""
    form = {field.alias or name: given.get(field.alias or name, "") for name, field in FilterQuery.model_fields.items()}
    if query is not None:
        if query.reviewed is not None:
            form["reviewed"] = str(query.reviewed).lower()
        for name, time in ("from", query.from_), ("to", query.to):
            # In some zones the calendar's ends lie beyond it in UTC.
            with suppress(OverflowError):
                form[name] = time_of(microseconds_of(time)).strftime("%Y-%m-%dT%H:%M:%S") if time else ""
    return form


def _filters(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name not in ("after", "before")}


def _suffix(query: Mapping[str, str]) -> str:
    return f"?{urlencode(query)}" if query else ""


def _wrong_filter(error: ValidationError) -> InvalidForm:
    first = error.errors()[0]
    name = str(first["loc"][0])[:64]
    if first["type"] == "extra_forbidden":
        return InvalidForm(f"There is no filter {name!r}; use those of the form.")
    given = str(first["input"])[:64]
    return InvalidForm(f"The filter {name} is {given!r}: {first['msg']}; change it, or leave it empty.")


def _review(label: str | None, note: str | None) -> ReviewBody:
    try:
        return ReviewBody.model_validate({"label": label, "note": note})
    except ValidationError as error:
        if error.errors()[0]["loc"][0] == "note":
            sentence = "The note is over 2000 characters or has some that cannot be printed; mend it and send it again."
        else:
            sentence = "The review does not say whether the part is fine; press one of the two buttons."
        raise InvalidForm(sentence) from error
