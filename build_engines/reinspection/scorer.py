"""Images of an archive through one engine or two, each read and decoded once. Needs neither torch nor Ray."""

import stat
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2

from build_engines.errors import ReinspectionError
from build_engines.reinspection.columns import findings
from build_engines.reinspection.listing import ArchiveImage
from engines import bundle as bundles
from engines.backends import RawResult
from engines.bundle import MODEL
from engines.detector import Detector
from engines.errors import BackendError, ImageError, ScoringError
from engines.images import PartImage, decode

Row = dict[str, object]

# Whatever ends with .tif or .png in an archive may be anything, and is read whole.
_LARGEST_FILE = 256 * 2**20
_GROUPS_AHEAD = 2


@dataclass(frozen=True)
class EngineSource:
    """Where a worker finds an engine, and what of it is asked.

    Attributes:
        folder: of the bundle, as each node sees it.
        digest: the bundle's, so that all workers score with the same.
        prefix: of its columns.
    """

    folder: Path
    digest: str
    prefix: str


@dataclass(frozen=True)
class _Picture:
    """An image at each size that an engine takes, or why there is none."""

    image: ArchiveImage
    row: Row
    sizes: dict[tuple[int, int], PartImage]


class ImageScorer:
    """Engines that are open, and the images' folder.

    Args:
        folder: what the images' names are relative to.
        engines: one, or two to compare.
        backend: name of the inference library.
        threads: of the inference library on a CPU; beside a GPU, of the decoding.

    Raises UnispectError where a bundle is missing, altered or another one, or cannot be opened here.
    """

    def __init__(self, folder: Path, engines: Sequence[EngineSource], backend: str, threads: int) -> None:
        self._folder = folder
        self._prefixes = [source.prefix for source in engines]
        self._detectors = _open(engines, backend, threads)
        self._group = max(detector.backend.largest_batch for detector in self._detectors)
        self._pool = ThreadPoolExecutor(threads, "decode") if self._group > 1 else None

    def score(self, images: Sequence[ArchiveImage]) -> list[Row]:
        """One row an image, in order; see `build_engines.reinspection.columns`.

        Raises BackendError where an engine fails on a batch.
        """
        rows: list[Row] = []
        pictures = self._pictures(images)
        while group := list(islice(pictures, self._group)):
            readable = [picture for picture in group if picture.sizes]
            if readable:
                self._score_group(readable)
            rows += [picture.row for picture in group]
        return rows

    def unread(self, image: ArchiveImage, reason: str) -> Row:
        """The row of an image that nothing is found of."""
        return {"path": image.text, **{f"{prefix}error": reason for prefix in self._prefixes}}

    def _pictures(self, images: Sequence[ArchiveImage]) -> Iterator[_Picture]:
        """The images decoded, in order; beside a GPU some groups ahead of it."""
        if self._pool is None:
            yield from map(self._read, images)
            return
        ready: deque[Future[_Picture]] = deque()
        for image in images:
            ready.append(self._pool.submit(self._read, image))
            if len(ready) > _GROUPS_AHEAD * self._group:
                yield ready.popleft().result()
        while ready:
            yield ready.popleft().result()

    def _read(self, image: ArchiveImage) -> _Picture:
        wanted = {detector.bundle.manifest.image_size for detector in self._detectors}
        try:
            data = _read_file(self._folder / image.name)
            sizes = {size: decode(data, *size) for size in wanted}
        except (ImageError, OSError) as error:
            reason = str(error) if isinstance(error, ImageError) else f"{error.strerror or 'It cannot be read'}."
            return _Picture(image, self.unread(image, reason), {})
        first = next(iter(sizes.values()))
        return _Picture(image, {"path": image.text, "width": first.width, "height": first.height}, sizes)

    def _score_group(self, group: Sequence[_Picture]) -> None:
        results: dict[int, RawResult] = {}
        for detector, prefix in zip(self._detectors, self._prefixes, strict=True):
            size = detector.bundle.manifest.image_size
            images = [picture.sizes[size] for picture in group]
            key = id(detector.backend)
            result = results[key] = results[key] if key in results else detector.infer(images)
            for index, picture in enumerate(group):
                try:
                    inspection = detector.judge(result, index, images[index], picture.image.part_class)
                except (ScoringError, BackendError) as error:
                    picture.row[f"{prefix}error"] = str(error)
                else:
                    picture.row.update(findings(inspection, prefix))


def _open(sources: Sequence[EngineSource], backend: str, threads: int) -> list[Detector]:
    # A worker has its share of the cores; OpenCV would take them all.
    cv2.setNumThreads(1)
    detectors: list[Detector] = []
    by_network: dict[object, Detector] = {}
    for source in sources:
        bundle = bundles.load(source.folder)
        if bundle.manifest.digest != source.digest:
            raise ReinspectionError(
                f"{source.folder} is not the same bundle on all nodes; copy it again, or give one that all can see."
            )
        network = bundle.manifest.files[MODEL].sha256, bundle.manifest.tiling
        # Versions that differ in their thresholds alone share a network, and what it computes.
        known = by_network.get(network)
        detector = Detector(bundle, known.backend) if known else Detector.open(bundle, backend, threads)
        detector.check_golden()
        by_network.setdefault(network, detector)
        detectors.append(detector)
    return detectors


def _read_file(path: Path) -> bytes:
    # Opening a pipe would wait for somebody to write to it.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "It is no file")
    if status.st_size > _LARGEST_FILE:
        raise OSError(0, f"It has {status.st_size} bytes, and no image of a part has more than {_LARGEST_FILE}")
    return path.read_bytes()
