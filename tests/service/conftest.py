from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines import bundle as bundles
from engines.bundle import Manifest
from tests.service.running import RunningServer, running_server

RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="session")
def manifest(bundle_folder: Path) -> Manifest:
    return bundles.load(bundle_folder).manifest


@pytest.fixture(scope="session")
def server(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(bundle_folder, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def pictures(parts_folder: Path) -> list[bytes]:
    """Test pictures of all part types, good and defective, as files' bytes."""
    return [path.read_bytes() for path in sorted(parts_folder.glob("*/test/*/*.png"))]


@pytest.fixture(scope="session")
def picture(pictures: list[bytes]) -> bytes:
    return pictures[0]


@pytest.fixture(scope="session")
def alien() -> bytes:
    """A JPEG that is no part, which every engine fails: 300 x 200 of coarse noise."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return encode(cv2.resize(noise, (300, 200), interpolation=cv2.INTER_NEAREST), ".jpg")


@pytest.fixture(scope="session")
def large_picture() -> bytes:
    """A PNG of 2400 x 2000: slow enough for requests to meet each other."""
    ramp = np.add.outer(np.arange(2000), np.arange(2400)) % 256
    return encode(np.repeat(ramp[:, :, None], 3, axis=2).astype(np.uint8), ".png")


def encode(image: np.ndarray, extension: str) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()
