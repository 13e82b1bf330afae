"""Indexes by which every filter of the history finds its page."""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BEFORE = (("part_class",), ("station",))
_SINCE = (("part_class", "verdict"), ("station", "verdict"), ("station", "part_class", "verdict"))


def upgrade() -> None:
    _exchange(_BEFORE, _SINCE)


def downgrade() -> None:
    _exchange(_SINCE, _BEFORE)


def _exchange(old: tuple[tuple[str, ...], ...], new: tuple[tuple[str, ...], ...]) -> None:
    for columns in old:
        op.drop_index(_name(columns), "inspections")
    for columns in new:
        given = text("station IS NOT NULL") if columns[0] == "station" else None
        op.create_index(_name(columns), "inspections", [*columns, "id"], sqlite_where=given, postgresql_where=given)


def _name(columns: tuple[str, ...]) -> str:
    return f"ix_inspections_{'_'.join(columns)}_id"
