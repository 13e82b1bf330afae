"""An engine that works on tiles is served as any other."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from engines import bundle as bundles
from engines.bundle import Bundle
from engines.detector import Detector
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server


@pytest.fixture(scope="module")
def bundle(tiled_bundle_folder: Path) -> Bundle:
    return bundles.load(tiled_bundle_folder)


@pytest.fixture(scope="module")
def tiled_server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(bundle.folder, tmp_path_factory.mktemp("tiled")) as running:
        yield running


def inspect(server: RunningServer, data: bytes, **query: str) -> dict:
    response = server.client.post("/v1/inspections", params=query, content=data, headers=RAW)
    assert response.status_code == 200
    return response.json()


def test_the_engine_says_how_it_cuts(tiled_server: RunningServer, server: RunningServer) -> None:
    engine = tiled_server.client.get("/v1/engine").json()
    assert engine["tiling"] == {"height": 128, "width": 128, "overlap": 16}
    assert (engine["input"]["height"], engine["input"]["width"]) == (64, 64)
    assert server.client.get("/v1/engine").json()["tiling"] is None


def test_the_answer_is_that_of_the_whole_picture(
    tiled_server: RunningServer, bundle: Bundle, pictures: list[bytes]
) -> None:
    detector = Detector.open(bundle, "openvino")
    for data in pictures[::7]:
        expected, answer = detector.inspect(data), inspect(tiled_server, data)
        assert answer["score"] == pytest.approx(expected.score, rel=1e-4)
        assert (answer["verdict"], answer["part_class"]) == (expected.verdict, expected.part_class)
        assert answer["image"] == {"width": 256, "height": 256}


def test_the_map_is_the_stitched_one(tiled_server: RunningServer, bundle: Bundle, alien: bytes) -> None:
    answer = inspect(tiled_server, alien, heatmap="map")
    heatmap = Image.open(io.BytesIO(base64.b64decode(answer["heatmap"])))
    assert heatmap.size == bundle.manifest.map_size[::-1] == (32, 32)
    values = np.asarray(heatmap, np.float64) / 65535 * answer["heatmap_scale"]
    assert values.max() == pytest.approx(answer["score"], rel=1e-4)


def test_the_overlay_has_the_size_of_the_picture(tiled_server: RunningServer, alien: bytes) -> None:
    answer = inspect(tiled_server, alien, heatmap="overlay")
    image = cv2.imdecode(np.frombuffer(base64.b64decode(answer["heatmap"]), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (200, 300, 3)
    assert answer["regions"][0]["peak"] == pytest.approx(answer["score"], rel=1e-4)
