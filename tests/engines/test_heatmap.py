"""Heatmaps for people and for programs."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from engines.heatmap import MAX_LAYER_SIDE, SCALE_KEY, encode_jpeg, encode_layer, encode_map, encode_png, overlay

PICTURE = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)


@pytest.mark.parametrize("largest", [1e-6, 0.37, 1.0, 12345.6])
def test_map_survives_its_png(largest: float) -> None:
    anomaly_map = (np.random.default_rng(1).random((64, 48), np.float32) * np.float32(largest)).astype(np.float32)
    data, scale = encode_map(anomaly_map)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "I;16"
        assert float(image.text[SCALE_KEY]) == scale
        read = np.asarray(image).astype(np.float64) / 65535 * scale
    assert np.abs(read - anomaly_map).max() <= scale / 65535
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_an_empty_map_is_black() -> None:
    data, scale = encode_map(np.zeros((8, 8), np.float32))
    assert scale > 0
    with Image.open(io.BytesIO(data)) as image:
        assert not np.asarray(image).any()


def test_map_below_zero_is_black_whatever_its_values() -> None:
    data, scale = encode_map(np.linspace(-3, -1, 20, dtype=np.float32).reshape(4, 5))
    assert scale == 1.0
    with Image.open(io.BytesIO(data)) as image:
        assert not np.asarray(image).any()


def test_overlay_leaves_cold_places_alone() -> None:
    anomaly_map = np.zeros((30, 50), np.float32)
    anomaly_map[10:20, 5:15] = 2.0
    shown = overlay(PICTURE, anomaly_map, threshold=1.0)
    assert (shown.shape, shown.dtype) == (PICTURE.shape, np.uint8)
    assert np.array_equal(shown[:, 80:], PICTURE[:, 80:])
    assert np.array_equal(shown[:30], PICTURE[:30])
    assert np.abs(shown[45:75, 25:55].astype(int) - PICTURE[45:75, 25:55]).mean() > 20


def test_a_layer_over_the_picture_is_its_overlay() -> None:
    anomaly_map = np.linspace(0, 2, 120 * 200, dtype=np.float32).reshape(120, 200)
    layer = np.asarray(Image.open(io.BytesIO(encode_layer(anomaly_map, 1.0)))).astype(float)
    assert layer.shape == (120, 200, 4)
    weight = 0.65 * layer[:, :, 3:] / 255
    laid = PICTURE * (1 - weight) + layer[:, :, :3] * weight
    assert np.abs(laid - overlay(PICTURE, anomaly_map, 1.0)).max() <= 2


def test_a_layer_hides_nothing_where_it_is_cold_and_is_no_larger_than_a_screen_needs() -> None:
    anomaly_map = np.zeros((300, 3 * MAX_LAYER_SIDE), np.float32)
    anomaly_map[:, :MAX_LAYER_SIDE] = 5.0
    with Image.open(io.BytesIO(encode_layer(anomaly_map, 1.0))) as image:
        assert (image.mode, image.size) == ("RGBA", (MAX_LAYER_SIDE, 100))
        alpha = np.asarray(image)[:, :, 3]
    third = MAX_LAYER_SIDE // 3
    assert (alpha[:, : third - 2] == 255).all() and not alpha[:, third + 2 :].any()


def test_overlay_does_not_change_its_input() -> None:
    before = PICTURE.copy()
    overlay(PICTURE, np.ones((8, 8), np.float32), 1.0)
    assert np.array_equal(PICTURE, before)


def test_hotter_places_are_brighter_and_the_scale_ends_at_twice_the_threshold() -> None:
    black = np.zeros((16, 16, 3), np.uint8)
    brightness = [overlay(black, np.full((4, 4), heat, np.float32), 1.0).mean() for heat in (0, 0.5, 1, 1.5, 2, 20)]
    assert brightness[0] == 0
    assert brightness[:5] == sorted(brightness[:5])
    assert len(set(brightness[:5])) == 5
    assert brightness[4] == brightness[5]


def test_encoders_keep_the_colours() -> None:
    smooth = cv2.resize(PICTURE[:4, :4], (64, 64), interpolation=cv2.INTER_LINEAR)
    with Image.open(io.BytesIO(encode_png(smooth))) as image:
        assert np.array_equal(np.asarray(image), smooth)
    with Image.open(io.BytesIO(encode_jpeg(smooth, 95))) as image:
        assert np.abs(np.asarray(image).astype(int) - smooth).mean() < 4
