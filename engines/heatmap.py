"""Anomaly maps as pictures: a colour overlay for people, a 16-bit PNG for programs."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from engines.errors import UndecodableImage

MAX_OVERLAY_SIDE = 2048
SCALE_KEY = "unispect:scale"
MAX_LAYER_SIDE = 256
_OPACITY = 0.65
# A line waits for it.
_FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def overlay(image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Colour the suspicious places of a picture and leave the rest as it is.

    Colour and opacity grow with the root of map / (2 * threshold), so that one picture can be compared with the next:
    what is brighter than the middle of the scale made the part fail.

    Args:
        image: uint8 [H, W, 3] RGB, the picture.
        anomaly_map: float32 [h, w], of any size.
        threshold: the class's score threshold, > 0.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    height, width = image.shape[:2]
    strength = _resized(_strength(anomaly_map, threshold), width, height, cv2.INTER_LINEAR)
    colours = _colours(strength)[:, :, ::-1]
    weight = (_OPACITY * strength)[:, :, None]
    return np.asarray(image * (1.0 - weight) + colours * weight, dtype=np.uint8)


def encode_layer(anomaly_map: NDArray[np.float32], threshold: float) -> bytes:
    """The colours of `overlay` alone, as PNG with transparency, to be laid over the picture at any opacity.

    Args:
        anomaly_map: float32 [h, w]; it gives the PNG its size, reduced to `MAX_LAYER_SIDE` where it is larger.
        threshold: the class's score threshold, > 0.
    """
    strength = _strength(anomaly_map, threshold)
    ratio = MAX_LAYER_SIDE / max(strength.shape)
    if ratio < 1.0:
        height, width = (max(1, round(side * ratio)) for side in strength.shape)
        strength = _resized(strength, width, height, cv2.INTER_AREA)
    alpha = (strength * 255).astype(np.uint8)
    return _encode(".png", np.dstack([_colours(strength), alpha]), _FAST_PNG)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, 3] RGB as PNG."""
    return _encode(".png", image[:, :, ::-1], _FAST_PNG)


def encode_jpeg(image: NDArray[np.uint8], quality: int = 90) -> bytes:
    """uint8 [H, W, 3] RGB as JPEG of the given quality, 1 to 100."""
    return _encode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_map(anomaly_map: NDArray[np.float32]) -> tuple[bytes, float]:
    """A float32 map [h, w] as 16-bit grey PNG, and its scale; values below 0, as normalised maps have, become 0.

    value = pixel / 65535 * scale. The scale stands in the PNG's text chunk `unispect:scale` too.
    """
    scale = max(float(anomaly_map.max()), 0.0) or 1.0
    levels = np.round(np.clip(anomaly_map / scale, 0.0, 1.0) * 65535.0).astype(np.uint16)
    text = PngImagePlugin.PngInfo()
    text.add_text(SCALE_KEY, repr(scale))
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", pnginfo=text, compress_level=1)
    return buffer.getvalue(), scale


def decode_map(png: bytes) -> NDArray[np.float32]:
    """The map float32 [h, w] that `encode_map` wrote, to 1/65535 of its scale.

    Raises UndecodableImage where it is none.
    """
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            scale = float(image.info[SCALE_KEY])
            return np.asarray(np.asarray(image, dtype=np.float32) * np.float32(scale / 65535.0))
    except (OSError, SyntaxError, KeyError, ValueError) as error:
        raise UndecodableImage(f"The PNG is no anomaly map ({error}); delete it.") from error


def _strength(anomaly_map: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    return np.asarray(np.sqrt(np.clip(anomaly_map / (2.0 * max(threshold, 1e-12)), 0.0, 1.0)), dtype=np.float32)


def _resized(strength: NDArray[np.float32], width: int, height: int, interpolation: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(strength, (width, height), interpolation=interpolation), dtype=np.float32)


def _colours(strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), dtype=np.uint8)


def _encode(extension: str, image: NDArray[np.uint8], parameters: list[int]) -> bytes:
    done, encoded = cv2.imencode(extension, np.ascontiguousarray(image), parameters)
    assert done, f"OpenCV could not write {extension}"
    return encoded.tobytes()
