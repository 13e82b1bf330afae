"""The ledger's tables, in SQLite and PostgreSQL alike. `migrations/` makes them; a test holds both equal.

Ids are UUID version 7 as 32 hexadecimal digits (`service.ids`): they sort by time, so that the newest come first by
`ORDER BY id DESC`, a page begins after the last id of the one before, and a span of time is a span of ids
(`service.ids.first_id_at`). Times are microseconds since 1970 in UTC. The indexes are those that
`service.history_filter` needs.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Rows arrive in the order of their ids: without SQLite's own row number each is written once, at the table's end.
inspections = Table(
    "inspections",
    metadata,
    Column("id", Text, primary_key=True),
    Column("time", BigInteger, nullable=False, comment="Of the result, microseconds since 1970 in UTC."),
    Column("part_id", Text, comment="As given with the request."),
    Column("station", Text, comment="As given with the request."),
    Column("client", Text, comment="The API key's name, or the address without keys."),
    Column("part_class", Text, nullable=False),
    Column("part_class_source", Text, nullable=False, comment="given or recognised."),
    Column("unknown_part", Boolean, nullable=False),
    Column("score", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("p_value", Double, nullable=False),
    Column("verdict", Text, nullable=False, comment="pass, review or fail."),
    Column("regions", JSON, nullable=False, comment="Objects of x, y, width, height, area in pixels, and peak."),
    Column("engine_name", Text, nullable=False),
    Column("engine_version", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("width", Integer, nullable=False, comment="Of the upright original image in pixels."),
    Column("height", Integer, nullable=False),
    Column("image_sha256", Text, nullable=False, comment="Of the file that was sent, 64 hexadecimal digits."),
    Column("decode_seconds", Double, nullable=False),
    Column("queue_seconds", Double, nullable=False),
    Column("inference_seconds", Double, nullable=False),
    Column("postprocess_seconds", Double, nullable=False),
    Column("total_seconds", Double, nullable=False),
    CheckConstraint("verdict IN ('pass', 'review', 'fail')", name="verdict"),
    Index(None, "part_class", "verdict", "id"),
    Index(None, "verdict", "id"),
    sqlite_with_rowid=False,
)
# Only of the rows that have one: elsewhere each insert would write a page for nothing.
for _names in (("part_id",), ("station", "verdict"), ("station", "part_class", "verdict")):
    _given = inspections.c[_names[0]].is_not(None)
    Index(None, *(inspections.c[name] for name in (*_names, "id")), sqlite_where=_given, postgresql_where=_given)

reviews = Table(
    "reviews",
    metadata,
    Column("id", Text, primary_key=True),
    Column("inspection_id", Text, ForeignKey("inspections.id"), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("label", Text, nullable=False, comment="ok or defect; of an inspection's reviews the latest counts."),
    Column("note", Text),
    Column("reviewer", Text, comment="The API key's name, or the address without keys."),
    CheckConstraint("label IN ('ok', 'defect')", name="label"),
    Index(None, "inspection_id", "id"),
    sqlite_with_rowid=False,
)

shadow_inspections = Table(
    "shadow_inspections",
    metadata,
    Column("id", Text, ForeignKey("inspections.id"), primary_key=True, comment="The inspection's."),
    Column("engine_name", Text, nullable=False),
    Column("engine_version", Text, nullable=False),
    Column("score", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("p_value", Double, nullable=False),
    Column("verdict", Text, nullable=False, comment="pass, review or fail."),
    Column("part_class", Text, nullable=False),
    CheckConstraint("verdict IN ('pass', 'review', 'fail')", name="verdict"),
    sqlite_with_rowid=False,
)

resets = Table(
    "resets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("time", BigInteger, nullable=False, comment="From which on the statistics count."),
    Column("client", Text, comment="Who reset them: the API key's name, or the address without keys."),
    sqlite_with_rowid=False,
)
