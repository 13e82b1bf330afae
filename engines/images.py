"""From the bytes of a picture to uint8 RGB at the model's size: one function for training and for serving.

The rule: upright by EXIF, alpha dropped, 16 bits cut to 8, grey repeated to RGB, then resized to the model's size
without keeping the aspect (the papers' way), with pixel-area averaging when both sides shrink and bilinear otherwise.
A JPEG far larger than the model is decoded by libjpeg at 1/2, 1/4 or 1/8 scale, never below the model's size.
"""

import os

# OpenCV reads this once, at import: a second line of defence behind the header check below.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(200_000_000))

import io
import struct
import warnings
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from engines.errors import ImageTooLarge, UndecodableImage, UnsupportedImage

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
DEFAULT_MAX_PIXELS = 50_000_000
SMALLEST_SIDE = 8
LARGEST_ASPECT = 32
# Progressive encoders write about ten; a thumbnail in the EXIF block may have as many again.
_MOST_SCANS = 40
_EXIF_ORIENTATION = 0x0112
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
# What Pillow's header parsers raise on broken headers, beside OSError.
_HEADER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
)

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# Of a broken EXIF block Pillow warns, and the decoder judges; a server would log a line per upload.
warnings.filterwarnings("ignore", module=r"PIL\..*")


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture declares of itself: format, and upright size in pixels."""

    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PartImage:
    """A picture at the model's size.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        width, height: the upright size of the original picture in pixels, in which regions are reported.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int


def read_header(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Header:
    """Read format and size without decoding a pixel.

    Raises:
        UnsupportedImage: empty, or not one of `FORMATS`.
        ImageTooLarge: more than `max_pixels` declared.
        UndecodableImage: a header that is broken, or a side or aspect no part picture has.
    """
    if not data:
        raise UnsupportedImage("The image is empty; send the bytes of a JPEG, PNG, BMP, WebP or TIFF file.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height, format_ = image.width, image.height, str(image.format)
            # Of a TIFF, Pillow tells the upright size by itself.
            turned = format_ != "TIFF" and image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except UnidentifiedImageError as error:
        if known := _signature(data):
            raise UndecodableImage(f"The {known} header is truncated or broken; send the whole file.") from error
        raise UnsupportedImage("The bytes are not a picture; send a JPEG, PNG, BMP, WebP or TIFF file.") from error
    except Image.DecompressionBombError as error:
        raise _too_large("", max_pixels) from error
    except _HEADER_ERRORS as error:
        raise UndecodableImage(f"The image header cannot be read ({error}); send the whole file.") from error
    if turned:
        width, height = height, width
    if width * height > max_pixels:
        raise _too_large(f" of {width}x{height} pixels", max_pixels)
    if min(width, height) < SMALLEST_SIDE or max(width, height) > LARGEST_ASPECT * min(width, height):
        raise UndecodableImage(
            f"An image of {width}x{height} pixels is no part picture; both sides must have {SMALLEST_SIDE} pixels or "
            f"more, the longer at most {LARGEST_ASPECT} times the shorter."
        )
    return Header(format_, width, height)


def decode(data: bytes, height: int, width: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> PartImage:
    """Decode a picture to the model's size.

    Args:
        data: the file's bytes, of any of `FORMATS`.
        height, width: the model's input size in pixels.
        max_pixels: what the header may declare at most.

    Raises:
        ImageError: see `read_header`; also UndecodableImage where the pixel data is truncated or broken.
    """
    header = read_header(data, max_pixels)
    bgr = decode_reduced(data, header, height, width)
    return PartImage(_rgb(resize(bgr, height, width)), header.width, header.height)


def decode_reduced(data: bytes, header: Header, height: int, width: int) -> NDArray[np.uint8]:
    """Decode upright to uint8 [H', W', 3] BGR, no smaller than height x width unless the picture is.

    Raises UndecodableImage where the pixel data is truncated or broken.
    """
    scale = _jpeg_scale(header, height, width) if header.format == "JPEG" else 1
    return _imdecode(data, _REDUCED.get(scale, cv2.IMREAD_COLOR), header)


def decode_original(data: bytes, max_side: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a picture upright at its own size, or reduced so that its longer side is `max_side`: uint8 [H, W, 3] RGB.

    Raises ImageError as `decode` does.
    """
    header = read_header(data, max_pixels)
    longest = max(header.width, header.height)
    if longest <= max_side:
        return _rgb(_imdecode(data, cv2.IMREAD_COLOR, header))
    ratio = max_side / longest
    return decode(data, max(1, round(header.height * ratio)), max(1, round(header.width * ratio)), max_pixels).pixels


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize uint8 [H, W, C] by the module's rule: area averaging when both sides shrink, bilinear otherwise."""
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    shrinks = rows >= height and columns >= width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def _jpeg_scale(header: Header, height: int, width: int) -> int:
    return next((s for s in (8, 4, 2) if header.height // s >= height and header.width // s >= width), 1)


def _imdecode(data: bytes, flags: int, header: Header) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if _is_decoding_cheap(data, header) else None
    except cv2.error:
        image = None
    if image is None:
        raise UndecodableImage(
            f"The {header.format} of {header.width}x{header.height} pixels is truncated or broken; send it again."
        )
    return np.asarray(image, dtype=np.uint8)


def _rgb(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _is_decoding_cheap(data: bytes, header: Header) -> bool:
    """Whether decoding costs what the header says.

    Each scan of a JPEG goes over the whole picture: 1 MB of scans of 75 bytes kept a core busy for minutes. OpenCV
    allocates what a PNG's chunk declares, up to 2 GB, before it reads it.
    """
    if header.format == "JPEG":
        return data.count(b"\xff\xda") <= _MOST_SCANS
    return header.format != "PNG" or _png_chunks_fit(data)


def _png_chunks_fit(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if kind == b"IEND":
            return at <= len(data)
    return False


def _signature(data: bytes) -> str | None:
    return next((name for start, name in _SIGNATURES.items() if data.startswith(start)), None)


def _too_large(what: str, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(f"An image{what} is above the limit of {max_pixels} pixels; send a smaller one.")
