"""An output that is made in parts: what is done stays done, and nothing gets into it that does not belong there."""

import fcntl
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from build_engines.errors import ReinspectionError
from build_engines.reinspection.columns import table_of, to_parquet
from build_engines.reinspection.listing import ArchiveImage
from build_engines.reinspection.parts import Parts, open_parts
from build_engines.reinspection.records import Asked, EngineRecord, read_record

ENGINE = EngineRecord(name="parts", version="1", digest="0" * 64)
ASKED = Asked(source="/archive", manifest_sha256=None, engine=ENGINE, against=None, backend="openvino")
IMAGES = [ArchiveImage(f"{number:03}.png") for number in range(35)]
STRANGE = ArchiveImage(os.fsdecode(b"caf\xe9.png"), "gear")


def content_of(images: list[ArchiveImage]) -> bytes:
    return to_parquet(table_of([{"path": image.text, "score": 0.5} for image in images], [""]))


def add_all(parts: Parts, *left_out: int) -> None:
    for part in set(range(parts.record.parts)) - parts.done() - set(left_out):
        parts.add(part, content_of(parts.images_of(part)))


def never() -> list[ArchiveImage]:
    raise AssertionError("the archive was listed again")


def test_parts_become_one_file_in_the_order_of_the_images(tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with open_parts(out, ASKED, 2, lambda: IMAGES) as parts:
        assert parts.record.parts == 18
        for part in reversed(range(parts.record.parts)):
            parts.add(part, content_of(parts.images_of(part)))
        parts.finish()
    assert pq.read_table(out)["path"].to_pylist() == [image.name for image in IMAGES]
    assert read_record(out).asked == ASKED
    assert list(tmp_path.iterdir()) == [out]


def test_what_was_done_and_listed_is_there_the_next_time(tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with open_parts(out, ASKED, 1, lambda: [STRANGE, *IMAGES]) as parts:
        add_all(parts, 3, 7)
    with open_parts(out, ASKED, 99, never) as parts:
        assert set(range(parts.record.parts)) - parts.done() == {3, 7}
        assert parts.images_of(0) == [STRANGE]
        add_all(parts)
        parts.finish()
    assert len(pq.read_table(out)) == 36


def test_few_images_are_shared_out_as_well(tmp_path: Path) -> None:
    with open_parts(tmp_path / "scores.parquet", ASKED, 128, lambda: IMAGES) as parts:
        assert parts.record.chunk == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "/other"}, "another archive"),
        ({"manifest_sha256": "1" * 64}, "another manifest"),
        ({"engine": ENGINE.model_copy(update={"digest": "1" * 64})}, "another engine;"),
        ({"against": ENGINE}, "another engine as --against"),
        ({"backend": "onnxruntime"}, "another --backend"),
    ],
)
def test_parts_of_something_else_are_not_gone_on_with(tmp_path: Path, change: dict[str, object], message: str) -> None:
    out = tmp_path / "scores.parquet"
    with open_parts(out, ASKED, 2, lambda: IMAGES) as parts:
        add_all(parts)
    other = ASKED.model_copy(update=change)
    with pytest.raises(ReinspectionError, match=message), open_parts(out, other, 2, lambda: IMAGES):
        pass


def test_two_processes_do_not_write_the_same_output(tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with open_parts(out, ASKED, 2, lambda: IMAGES):
        pass
    with (tmp_path / "scores.parquet.parts" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ReinspectionError, match="Another process is writing"), open_parts(out, ASKED, 2, never):
            pass


@pytest.mark.parametrize("content", [None, b"PAR1", content_of([ArchiveImage("x.png"), ArchiveImage("y.png")])])
def test_a_part_that_is_missing_broken_or_anothers_ends_in_no_output(tmp_path: Path, content: bytes | None) -> None:
    out = tmp_path / "scores.parquet"
    with open_parts(out, ASKED, 2, lambda: IMAGES) as parts:
        add_all(parts, 4)
        if content is not None:
            parts.add(4, content)
        with pytest.raises(ReinspectionError, match=r"part-000004.parquet is .*; delete it"):
            parts.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet.parts"]


def test_a_file_that_score_did_not_write_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    out.write_bytes(content_of(IMAGES))
    with pytest.raises(ReinspectionError, match="no output of score"):
        read_record(out)
    out.write_bytes(b"dear")
    with pytest.raises(ReinspectionError, match="no output of score"):
        read_record(out)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "scores.parquet.parts"
    folder.mkdir()
    (folder / "part-000000.parquet").write_bytes(b"dear")
    with (
        pytest.raises(ReinspectionError, match="no record"),
        open_parts(tmp_path / "scores.parquet", ASKED, 2, lambda: IMAGES),
    ):
        pass
    (folder / "scoring.json").write_text("{}")
    with (
        pytest.raises(ReinspectionError, match="is not of this unispect"),
        open_parts(tmp_path / "scores.parquet", ASKED, 2, lambda: IMAGES),
    ):
        pass
    assert (folder / "part-000000.parquet").read_bytes() == b"dear"
