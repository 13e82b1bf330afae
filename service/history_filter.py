"""Which past inspections are wanted, and the query for a page of them.

A page is read by an index that has its inspections in their order, so that it takes the same time in a ledger of any
size: where the index has the verdict before the id and none is wanted, the newest of each verdict are merged. What no
index covers is of few: the inspections of one part, and those that a person reviewed.
"""

from dataclasses import dataclass, replace
from typing import Any, get_args

from sqlalchemy import ColumnElement, Select, exists, select, union_all

from engines.scoring import Verdict
from service.ids import first_id_at
from service.ledger.schema import inspections, reviews

_VERDICTS = get_args(Verdict)
_COLUMNS = ("part_class", "verdict", "station", "part_id")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which inspections; None leaves a member open.

    Attributes:
        since, until: microseconds since 1970 in UTC; the first included, the last not.
        reviewed: whether there is a review.
    """

    part_class: str | None = None
    verdict: str | None = None
    station: str | None = None
    part_id: str | None = None
    since: int | None = None
    until: int | None = None
    reviewed: bool | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins; everywhere if all is None.

    Attributes:
        after: the id of the inspection that comes before the page, newest first.
        before: the id of the one that follows it; the page has the nearest ones, in the order from old to new.
    """

    after: str | None = None
    before: str | None = None


def page_query(wanted: Filter, limit: int, place: Place) -> Select[Any]:
    """At most `limit` rows of inspections, the newest first; with `place.before` the oldest first."""
    if wanted.reviewed and wanted.part_id is None:
        return _by_reviews(wanted, limit, place)
    given = _given(wanted)
    if not {"part_class", "station"}.intersection(given) or {"verdict", "part_id"}.intersection(given):
        return _by_index(wanted, given, limit, place)
    each = [_by_index(replace(wanted, verdict=verdict), (*given, "verdict"), limit, place) for verdict in _VERDICTS]
    merged = union_all(*(select(one.subquery()) for one in each)).subquery()
    return select(merged).order_by(_in_order(merged.c.id, place)).limit(limit)


def _by_index(wanted: Filter, given: tuple[str, ...], limit: int, place: Place) -> Select[Any]:
    indexed = ("part_id",) if "part_id" in given else given
    query = select(inspections).where(*(_equals(wanted, name, name in indexed) for name in given))
    if wanted.reviewed is not None:
        is_reviewed = exists().where(reviews.c.inspection_id == inspections.c.id)
        query = query.where(is_reviewed if wanted.reviewed else ~is_reviewed)
    return _ordered(query, inspections.c.id, wanted, place).limit(limit)


def _by_reviews(wanted: Filter, limit: int, place: Place) -> Select[Any]:
    """Of an inspection's reviews the newest finds it, so that it comes once."""
    later, id_ = reviews.alias(), reviews.c.inspection_id
    newest = ~exists().where(later.c.inspection_id == id_, later.c.id > reviews.c.id)
    query = select(inspections).join_from(reviews, inspections, inspections.c.id == id_).where(newest)
    query = query.where(*(_equals(wanted, name, indexed=False) for name in _given(wanted)))
    return _ordered(query, id_, wanted, place).limit(limit)


def _given(wanted: Filter) -> tuple[str, ...]:
    return tuple(name for name in _COLUMNS if getattr(wanted, name) is not None)


def _equals(wanted: Filter, name: str, indexed: bool) -> ColumnElement[bool]:
    """The condition on a column; where it is not `indexed`, no database goes by an index of the column.

    Without statistics SQLite takes the index of most columns, and would look for a part among all that passed.
    """
    column = inspections.c[name]
    condition: ColumnElement[bool] = (column if indexed else column.concat("")) == getattr(wanted, name)
    return condition


def _ordered(query: Select[Any], id_: ColumnElement[str], wanted: Filter, place: Place) -> Select[Any]:
    # Ids sort by time: the span of ids is found at once, the column settles what is within a millisecond. One bound a
    # side: of two SQLite seeks one, and reads all up to the other.
    lower = [place.before] if place.before is not None else []
    upper = [place.after] if place.after is not None else []
    if wanted.since is not None:
        lower.append(first_id_at(wanted.since))
        query = query.where(inspections.c.time >= wanted.since)
    if wanted.until is not None:
        upper.append(first_id_at(wanted.until + 1_000))
        query = query.where(inspections.c.time < wanted.until)
    if lower:
        query = query.where(id_ > max(lower))
    if upper:
        query = query.where(id_ < min(upper))
    return query.order_by(_in_order(id_, place))


def _in_order(id_: ColumnElement[str], place: Place) -> ColumnElement[str]:
    return id_.desc() if place.before is None else id_.asc()
