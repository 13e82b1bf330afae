"""Inspections, reviews, shadow inspections, resets of the statistics."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    Text,
    text,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "inspections",
        Column("id", Text, nullable=False),
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
        *(
            Column(f"{stage}_seconds", Double, nullable=False)
            for stage in ("decode", "queue", "inference", "postprocess", "total")
        ),
        PrimaryKeyConstraint("id", name="pk_inspections"),
        CheckConstraint("verdict IN ('pass', 'review', 'fail')", name=op.f("ck_inspections_verdict")),
        sqlite_with_rowid=False,
    )
    for column in ("part_class", "verdict"):
        op.create_index(f"ix_inspections_{column}_id", "inspections", [column, "id"])
    for column in ("part_id", "station"):
        given = text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_inspections_{column}_id",
            "inspections",
            [column, "id"],
            sqlite_where=given,
            postgresql_where=given,
        )
    op.create_table(
        "reviews",
        Column("id", Text, nullable=False),
        Column(
            "inspection_id",
            Text,
            ForeignKey("inspections.id", name="fk_reviews_inspection_id_inspections"),
            nullable=False,
        ),
        Column("time", BigInteger, nullable=False),
        Column("label", Text, nullable=False, comment="ok or defect; of an inspection's reviews the latest counts."),
        Column("note", Text),
        Column("reviewer", Text, comment="The API key's name, or the address without keys."),
        PrimaryKeyConstraint("id", name="pk_reviews"),
        CheckConstraint("label IN ('ok', 'defect')", name=op.f("ck_reviews_label")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_reviews_inspection_id_id", "reviews", ["inspection_id", "id"])
    op.create_table(
        "shadow_inspections",
        Column(
            "id",
            Text,
            ForeignKey("inspections.id", name="fk_shadow_inspections_id_inspections"),
            nullable=False,
            comment="The inspection's.",
        ),
        Column("engine_name", Text, nullable=False),
        Column("engine_version", Text, nullable=False),
        Column("score", Double, nullable=False),
        Column("threshold", Double, nullable=False),
        Column("p_value", Double, nullable=False),
        Column("verdict", Text, nullable=False, comment="pass, review or fail."),
        Column("part_class", Text, nullable=False),
        PrimaryKeyConstraint("id", name="pk_shadow_inspections"),
        CheckConstraint("verdict IN ('pass', 'review', 'fail')", name=op.f("ck_shadow_inspections_verdict")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "resets",
        Column("id", Text, nullable=False),
        Column("time", BigInteger, nullable=False, comment="From which on the statistics count."),
        Column("client", Text, comment="Who reset them: the API key's name, or the address without keys."),
        PrimaryKeyConstraint("id", name="pk_resets"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in ("resets", "shadow_inspections", "reviews", "inspections"):
        op.drop_table(table)
