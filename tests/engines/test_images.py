"""Decoding: every kind of picture that a camera writes comes out upright and as RGB; the rest is refused."""

import csv
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engines import images
from engines.errors import ImageError, ImageTooLarge, UndecodableImage, UnsupportedImage
from engines.images import decode, decode_original, read_header, resize
from tests.hostile import hostile_files, picture, png_chunk

HOSTILE = hostile_files()
# Written out from Pillow's table of transpositions, so that a stored picture looks upright again after its tag's turn.
UNDO_ORIENTATION = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width: int = 300, height: int = 200) -> NDArray[np.uint8]:
    """Smooth colours that differ in every corner: uint8 [H, W, 3] RGB."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    red, green, blue = 255 * x / width, 255 * y / height, 127 + 100 * np.sin(x / 25) * np.cos(y / 19)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize(
    ("format_", "options", "tolerance"),
    [
        ("PNG", {}, 0.0),
        ("BMP", {}, 0.0),
        ("WEBP", {"lossless": True}, 0.0),
        ("TIFF", {}, 0.0),
        ("TIFF", {"compression": "tiff_lzw"}, 0.0),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 0.0),
        ("JPEG", {"quality": 95}, 2.0),
        ("JPEG", {"quality": 95, "progressive": True}, 2.0),
        ("WEBP", {"quality": 95}, 3.0),
    ],
)
def test_colours_come_out_as_rgb(format_: str, options: dict[str, object], tolerance: float) -> None:
    decoded = decode(saved(Image.fromarray(scene()), format_, **options), 200, 300)
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.pixels.shape, decoded.width, decoded.height) == ((200, 300, 3), 300, 200)
    assert difference(decoded.pixels, scene()) <= tolerance


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(format_: str, orientation: int) -> None:
    upright = Image.fromarray(scene())
    turn = UNDO_ORIENTATION[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(saved(stored, format_, quality=95, exif=exif), 200, 300)
    assert (decoded.width, decoded.height) == (300, 200)
    assert difference(decoded.pixels, scene()) < 2.5


def test_orientation_holds_when_a_large_jpeg_is_decoded_reduced() -> None:
    upright = Image.fromarray(scene(1500, 1000))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = upright.transpose(UNDO_ORIENTATION[6])
    decoded = decode(saved(stored, "JPEG", quality=95, exif=exif), 64, 96)
    assert (decoded.width, decoded.height) == (1500, 1000)
    assert difference(decoded.pixels, resize(scene(1500, 1000), 64, 96)) < 2.5


def test_cmyk_jpeg_looks_as_pillow_shows_it() -> None:
    cmyk = Image.fromarray(scene()).convert("CMYK")
    decoded = decode(saved(cmyk, "JPEG", quality=95), 200, 300)
    assert difference(decoded.pixels, np.asarray(cmyk.convert("RGB"))) < 6.0


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "TIFF"])
def test_grey_is_repeated(format_: str) -> None:
    grey = Image.fromarray(scene()).convert("L")
    decoded = decode(saved(grey, format_), 200, 300).pixels
    assert np.array_equal(decoded[..., 0], decoded[..., 1])
    assert np.array_equal(decoded[..., 0], decoded[..., 2])
    assert difference(decoded[..., 0], np.asarray(grey)) < 1.5


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_cut_to_the_upper_eight(extension: str, channels: int) -> None:
    eight = scene() if channels == 3 else scene()[..., :1].copy()
    sixteen = eight.astype(np.uint16) * 256 + 77
    _, encoded = cv2.imencode(extension, sixteen[..., ::-1])
    assert difference(decode(encoded.tobytes(), 200, 300).pixels, np.broadcast_to(eight, (200, 300, 3))) <= 0.5


def test_palette_and_bilevel_png() -> None:
    palette = Image.fromarray(scene()).quantize(64)
    assert np.array_equal(decode(saved(palette, "PNG"), 200, 300).pixels, np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(scene()).convert("1")
    assert np.array_equal(decode(saved(bilevel, "PNG"), 200, 300).pixels[..., 0], np.asarray(bilevel.convert("L")))


@pytest.mark.parametrize(("format_", "alpha"), [("PNG", 128), ("PNG", 0), ("WEBP", 128), ("TIFF", 255)])
def test_alpha_is_dropped(format_: str, alpha: int) -> None:
    rgba = np.dstack([scene(), np.full((200, 300), alpha, np.uint8)])
    options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
    decoded = decode(saved(Image.fromarray(rgba), format_, **options), 200, 300)
    assert difference(decoded.pixels, scene()) <= 0.5


def test_interlaced_png() -> None:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    image = scene(64, 48)
    rows = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in image[y::dy, x::dx])
    header = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 1)
    chunks = png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")
    assert np.array_equal(decode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks), 48, 64).pixels, image)


def test_a_png_may_be_followed_by_other_bytes() -> None:
    data = saved(Image.fromarray(scene()), "PNG")
    assert np.array_equal(decode(data + b"trailer", 200, 300).pixels, scene())


def test_a_garbage_exif_block_does_not_spoil_a_jpeg() -> None:
    data = saved(Image.fromarray(scene()), "JPEG", quality=95)
    block = b"Exif\0\0" + np.random.default_rng(0).bytes(300)
    spoilt = data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    assert difference(decode(spoilt, 200, 300).pixels, scene()) < 2.0


@pytest.mark.parametrize(("width", "height"), [(2400, 1800), (1100, 1030), (515, 520)])
def test_reduced_jpeg_decode_is_close_to_the_full_one(width: int, height: int) -> None:
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 1))
    detailed = np.clip(scene(width, height) + noise, 0, 255).astype(np.uint8)
    data = saved(Image.fromarray(detailed), "JPEG", quality=90)
    full = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert difference(decode(data, 256, 256).pixels, resize(np.ascontiguousarray(full), 256, 256)) < 1.5


@pytest.mark.parametrize("side", [256, 300, 511, 512, 513, 1000, 1023, 1024, 1025, 2047, 2050])
def test_reduced_jpeg_decode_never_goes_below_the_models_size(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def spy(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        seen.append(image.shape)
        return resize(image, height, width)

    monkeypatch.setattr(images, "resize", spy)
    decode(picture("JPEG", side, side), 256, 256)
    assert min(seen[0][:2]) >= 256
    assert max(seen[0][:2]) < 2 * 256 + 8 or side >= 8 * 256


def test_decoding_is_deterministic() -> None:
    data = picture("JPEG", 1500, 1100, quality=85)
    assert np.array_equal(decode(data, 256, 256).pixels, decode(data, 256, 256).pixels)


def test_resize_averages_areas_when_both_sides_shrink() -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    fine = blocks.repeat(4, axis=0).repeat(4, axis=1)
    assert np.array_equal(resize(fine, 64, 64), blocks)
    assert resize(blocks, 128, 100).shape == (128, 100, 3)


def test_original_is_limited_in_size_only() -> None:
    data = saved(Image.fromarray(scene()), "PNG")
    assert np.array_equal(decode_original(data, 300), scene())
    assert decode_original(data, 150).shape == (100, 150, 3)


def test_pixel_limit_is_the_callers() -> None:
    data = saved(Image.fromarray(scene()), "PNG")
    assert decode(data, 64, 64, max_pixels=60_000).width == 300
    with pytest.raises(ImageTooLarge, match="59999"):
        decode(data, 64, 64, max_pixels=59_999)


@pytest.mark.parametrize(("data", "error"), [(b"", UnsupportedImage), (b"\x89PNG\r\n\x1a\n", UndecodableImage)])
def test_header_errors_say_what_is_wrong(data: bytes, error: type[ImageError]) -> None:
    with pytest.raises(error) as caught:
        read_header(data)
    assert str(caught.value).endswith(".")


def test_real_pictures_of_every_format_come_out_upright(shared: Path) -> None:
    folder = shared / "data" / "full_size"
    with (folder / "index.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert len(names) >= 12
    for name in names:
        data = (folder / name).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) >= 5:
                width, height = height, width
        decoded = decode(data, 256, 256)
        assert (decoded.width, decoded.height) == (width, height), name
        assert decoded.pixels.std() > 5, name
    assert decode((folder / "part_02.jpg").read_bytes(), 64, 64).width == 371


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused(name: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(HOSTILE[name], 256, 256)
    assert 20 < len(str(caught.value)) < 300


# In a process of its own, so that the largest memory of other tests does not hide a jump.
_MEASURE = """
import resource, time
from engines.errors import ImageError
from engines.images import decode
from tests.hostile import hostile_files, picture

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

files = hostile_files()
decode(picture("JPEG", 2000, 1500), 256, 256)
for name, data in files.items():
    before, start = peak(), time.perf_counter()
    try:
        decode(data, 256, 256)
    except ImageError:
        pass
    else:
        print(name, "was decoded")
    if time.perf_counter() - start > 1.0:
        print(name, "took", time.perf_counter() - start, "seconds")
    if peak() - before > 32:
        print(name, "took", peak() - before, "MB")
"""


def test_hostile_files_cost_neither_time_nor_memory() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", _MEASURE], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == ""
