"""Which images an archive has."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_engines.errors import ReinspectionError
from build_engines.reinspection.listing import ArchiveImage, folder_of, list_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(source: Path) -> list[str]:
    return [image.name for image in list_images(source)]


def test_images_of_all_folders_below_are_listed_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/z.jpg", "a/B.JPG", "a/c/d.tiff", "c.webp")
    assert names(tmp_path) == ["a/B.JPG", "a/c/d.tiff", "a/z.jpg", "b.png", "c.webp"]


def test_what_is_hidden_or_no_image_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".a.png.x7", "._a.png", ".trash/b.png", "notes.txt", "png")
    assert names(tmp_path) == ["a.png"]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == ["a/b.png"]


def test_a_name_that_is_no_utf8_is_listed_and_can_be_shown(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))).touch()
    (image,) = list_images(tmp_path)
    assert (tmp_path / image.name).exists()
    assert image.text == r"caf\xe9.png"


def test_a_manifest_keeps_its_order_and_names_part_classes(tmp_path: Path) -> None:
    manifest = tmp_path / "images.csv"
    manifest.write_text("station,path,part_class\nA,z.png,gear\nB,/archive/a.png,\n", encoding="utf-8-sig")
    assert list_images(manifest) == [ArchiveImage("z.png", "gear"), ArchiveImage("/archive/a.png")]
    assert folder_of(manifest) == tmp_path


def test_a_parquet_manifest_says_the_same(tmp_path: Path) -> None:
    manifest = tmp_path / "images.parquet"
    paths = pa.array(["z.png", "a.png"]).dictionary_encode()
    pq.write_table(pa.table({"path": paths, "part_class": ["gear", None]}), manifest)
    assert list_images(manifest) == [ArchiveImage("z.png", "gear"), ArchiveImage("a.png")]
    pq.write_table(pa.table({"path": ["z.png"], "score": [0.5]}), manifest)
    assert list_images(manifest) == [ArchiveImage("z.png")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"", "has no column 'path'"),
        ("m.csv", b"file\na.png\n", "has no column 'path'"),
        ("m.csv", b"path\n", "lists no images"),
        ("m.csv", b"path,part_class\n,gear\n", "Row 1 of"),
        ("m.csv", b"path,part_class\na.png,gear\nb.png,../x\n", "Row 2 of"),
        ("m.csv", b"path\na\0.png\n", "has no path"),
        ("m.csv", b"path\n\xff.png\n", "is no CSV in UTF-8"),
        ("m.parquet", b"PAR1 and no more", "cannot be read"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReinspectionError, match=message):
        list_images(tmp_path / name)


def test_an_archive_that_is_empty_or_missing_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ReinspectionError, match=r"holds no images; they end with \.bmp"):
        list_images(tmp_path)
    with pytest.raises(ReinspectionError, match="There is no archive"):
        list_images(tmp_path / "nothing")


def test_a_folder_that_may_not_be_read_is_not_left_out_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "b/c.png")
    scan = os.scandir

    def deny(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(PermissionError):
        list_images(tmp_path)
