"""Whether another library computes what the CPU computes: the bundle's golden image through both."""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.backends import Backend, RawResult, open_backend
from engines.bundle import Bundle
from engines.images import decode

_CPU_LIBRARIES = ("openvino", "onnxruntime")


class Agreement(BaseModel):
    """What an engine gives for the golden image, beside what it should.

    Attributes:
        reference: the CPU's library; `bundle` where none is installed, and the score alone is compared.
        device: what ran the engine.
        score, expected_score: of all runs, the score farthest from the expected one.
        map_error: mean absolute difference of the maps over the mean magnitude of the expected one.
        embedding_error: distance of the embeddings over the length of the expected one.
        tolerance: the bundle's, relative, for all three.
        batches: that the golden image was run in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str
    device: str
    score: float
    expected_score: float
    map_error: float | None
    embedding_error: float | None
    tolerance: float = Field(gt=0)
    batches: tuple[int, ...]

    @property
    def holds(self) -> bool:
        """Whether the engine may be used."""
        errors = [abs(self.score - self.expected_score) / max(abs(self.expected_score), 1e-12)]
        errors += [error for error in (self.map_error, self.embedding_error) if error is not None]
        # No number compares as within the tolerance.
        return all(error <= self.tolerance for error in errors)

    def __str__(self) -> str:
        text = f"score {self.score:.6g}, {self.expected_score:.6g} on {self.reference}"
        if self.map_error is not None and self.embedding_error is not None:
            text += f"; maps differ by {self.map_error:.2%}, embeddings by {self.embedding_error:.2%}"
        return text


def golden_pixels(bundle: Bundle) -> NDArray[np.uint8]:
    """The golden image as the network takes it, uint8 [N, H, W, 3]: N is 1, or the number of its tiles."""
    pixels = decode(bundle.golden_path.read_bytes(), *bundle.manifest.image_size).pixels
    grid = bundle.manifest.grid
    return grid.split(pixels) if grid is not None else pixels[None]


def check_agreement(bundle: Bundle, backend: Backend, device: str, largest: int) -> Agreement:
    """Run the golden image alone and `largest` times at once, and compare with the CPU.

    Args:
        backend: takes whole images, as `open_backend` gives it.
        device: its name, for the record.
        largest: the largest batch that the engine was compiled for.

    Raises BackendError where either library fails.
    """
    golden = bundle.manifest.golden
    image = decode(bundle.golden_path.read_bytes(), *bundle.manifest.image_size).pixels[None]
    expected = _on_cpu(bundle, image)
    # Tiles of one image already come in batches.
    batches = (1,) if bundle.manifest.grid is not None else tuple(sorted({1, largest}))
    runs = [backend.run(np.repeat(image, count, axis=0)) for count in batches]
    score = golden.score if expected is None else float(expected[1].scores[0])
    scores = np.concatenate([run.scores for run in runs])
    # The first that is no number, where there is one.
    worst = int(np.abs(scores - score).argmax())
    return Agreement(
        reference="bundle" if expected is None else expected[0],
        device=device,
        score=float(scores[worst]),
        expected_score=score,
        map_error=None if expected is None else max(_map_error(run, expected[1]) for run in runs),
        embedding_error=None if expected is None else max(_embedding_error(run, expected[1]) for run in runs),
        tolerance=golden.tolerance,
        batches=batches,
    )


def _on_cpu(bundle: Bundle, image: NDArray[np.uint8]) -> tuple[str, RawResult] | None:
    name = next((library for library in _CPU_LIBRARIES if find_spec(library) is not None), None)
    return None if name is None else (name, open_backend(bundle.network, name).run(image))


def _map_error(found: RawResult, expected: RawResult) -> float:
    differences = np.abs(found.maps - expected.maps).mean(axis=(1, 2))
    return _largest(differences / np.abs(expected.maps).mean())


def _embedding_error(found: RawResult, expected: RawResult) -> float:
    distances = np.linalg.norm(found.embeddings - expected.embeddings, axis=1)
    return _largest(distances / np.linalg.norm(expected.embeddings))


def _largest(errors: NDArray[np.floating]) -> float:
    return float(np.where(np.isnan(errors), np.inf, errors).max())
