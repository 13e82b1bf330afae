"""The columns of what was found, and tables of them as Parquet."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from engines.scoring import Inspection

# Columns of the engine that another one is compared with begin with it.
AGAINST = "against_"
_REGION = pa.struct(
    [(name, pa.int32()) for name in ("x", "y", "width", "height")] + [("area", pa.int64()), ("peak", pa.float64())]
)
_IMAGE = (("path", pa.string()), ("width", pa.int32()), ("height", pa.int32()))
_FOUND = (
    ("part_class", pa.string()),
    ("part_class_source", pa.string()),
    ("verdict", pa.string()),
    ("score", pa.float64()),
    ("threshold", pa.float64()),
    ("p_value", pa.float64()),
    ("unknown_part", pa.bool_()),
    ("regions", pa.list_(_REGION)),
    ("error", pa.string()),
)


def schema(prefixes: Sequence[str]) -> pa.Schema:
    """The columns of a table: of the image, and of each engine's findings, whose names begin with its prefix.

    `width` and `height` are the picture's own in pixels; other columns are those of `engines.scoring.Inspection`. A
    picture has either findings or an `error`.
    """
    return pa.schema([*_IMAGE, *((prefix + name, kind) for prefix in prefixes for name, kind in _FOUND)])


def findings(inspection: Inspection, prefix: str) -> dict[str, object]:
    """The columns of one engine's inspection."""
    regions = [{name: getattr(region, name) for name in _REGION.names} for region in inspection.regions]
    values = {name: getattr(inspection, name) for name, _ in _FOUND if name not in ("regions", "error")}
    return {prefix + name: value for name, value in {**values, "regions": regions}.items()}


def table_of(rows: Sequence[Mapping[str, object]], prefixes: Sequence[str]) -> pa.Table:
    """Rows as a table; columns that a row lacks are null."""
    return pa.Table.from_pylist(list(rows), schema=schema(prefixes))


def to_parquet(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()
