"""A network on tiles is for its users a network on whole images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines import bundle as bundles
from engines.backends import Backend, open_backend
from engines.bundle import Bundle
from engines.errors import BackendError
from engines.images import decode


@pytest.fixture(scope="module")
def bundle(tiled_bundle_folder: Path) -> Bundle:
    return bundles.load(tiled_bundle_folder)


@pytest.fixture(scope="module")
def backend(bundle: Bundle) -> Backend:
    return open_backend(bundle.network, "openvino", threads=1)


@pytest.fixture(scope="module")
def images(bundle: Bundle, parts_folder: Path) -> np.ndarray:
    paths = sorted(parts_folder.glob("*/test/*/*.png"))[::9]
    return np.stack([decode(path.read_bytes(), *bundle.manifest.image_size).pixels for path in paths])


def test_the_manifest_tells_image_tile_and_map(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.tiling is not None
    assert (manifest.image_size, manifest.map_size) == ((128, 128), (32, 32))
    assert (manifest.input.height, manifest.outputs.map_height, manifest.tiling.overlap) == (64, 16, 16)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_results_are_those_of_the_tiles(bundle: Bundle, images: np.ndarray, name: str) -> None:
    """Beside the network itself, called tile by tile and joined the plain way."""
    whole = open_backend(bundle.network, name, threads=1).run(images[:1])
    network = open_backend(replace(bundle.network, grid=None), name, threads=1)
    total, weight, embeddings = np.zeros((32, 32)), np.zeros((32, 32)), []
    ramp = np.minimum(np.minimum(np.arange(16) + 0.5, 15.5 - np.arange(16)), 4)
    for row in (0, 48, 64):
        for column in (0, 48, 64):
            found = network.run(images[:1, row : row + 64, column : column + 64])
            place = np.s_[row // 4 : row // 4 + 16, column // 4 : column // 4 + 16]
            total[place] += found.maps[0] * np.outer(ramp, ramp)
            weight[place] += np.outer(ramp, ramp)
            embeddings.append(found.embeddings[0])
    # Batches of another size are summed in another order, which an INT8 network can round to the next integer.
    assert np.abs(whole.maps[0] - total / weight).mean() < 0.02 * whole.maps.mean()
    assert whole.scores[0] == whole.maps[0].max()
    np.testing.assert_allclose(whole.embeddings[0], np.mean(embeddings, axis=0), rtol=0.02, atol=1e-3)


def test_shapes_are_as_the_manifest_says(bundle: Bundle, backend: Backend, images: np.ndarray) -> None:
    result = backend.run(images)
    assert len(images) > 2
    assert result.maps.shape == (len(images), *bundle.manifest.map_size)
    assert result.scores.shape == (len(images),)
    assert result.embeddings.shape == (len(images), bundle.manifest.outputs.embedding_size)
    assert {result.maps.dtype, result.scores.dtype, result.embeddings.dtype} == {np.dtype(np.float32)}


def test_an_image_scores_alone_as_among_others(backend: Backend, images: np.ndarray) -> None:
    together = backend.run(images)
    for index in range(len(images)):
        np.testing.assert_array_equal(backend.run(images[index : index + 1]).maps[0], together.maps[index])


def test_an_image_of_another_size_is_refused(backend: Backend, images: np.ndarray) -> None:
    with pytest.raises(BackendError, match=r"takes \[N, 128, 128, 3\]"):
        backend.run(images[:, :64, :64])
