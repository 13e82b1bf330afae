"""Batches of training images, altered as the settings ask; made ahead in a thread, beside the training."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from build_engines.data.augmentation import augment
from build_engines.data.corruption import corrupt
from build_engines.run import TrainSettings
from build_engines.split_images import Tiles

# Enough that a batch with many defects does not make the training wait.
_AHEAD = 3


@dataclass(frozen=True)
class Batch:
    """Some images of a run.

    Attributes:
        index: their places among the run's, [N].
        clean: what the teacher sees, uint8 [N, H, W, 3].
        shown: what the student sees: the same array, or one with defects.
    """

    index: NDArray[np.intp]
    clean: NDArray[np.uint8]
    shown: NDArray[np.uint8]

    @property
    def altered(self) -> NDArray[np.intp]:
        """Which of the images are shown with defects, by place in the batch."""
        return np.flatnonzero([(shown != clean).any() for shown, clean in zip(self.shown, self.clean, strict=True)])


class TrainingBatches:
    """The batches of an epoch. All chance in them comes from seed, epoch and image, whatever was made before.

    Args:
        pixels: of all images, [M, H, W, 3].
        train: places of the training images among them.
        settings: of the run.
    """

    def __init__(self, pixels: NDArray[np.uint8] | Tiles, train: NDArray[np.intp], settings: TrainSettings) -> None:
        self._pixels, self._train, self._settings = pixels, train, settings
        self.size = min(settings.batch_size, len(train))
        self.count = len(train) // self.size

    def epoch(self, number: int, rank: int = 0, processes: int = 1) -> Iterator[Batch]:
        """Each full batch in turn, or of each the share of one of several processes."""
        ready: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(1, "batches") as pool:
            for index in self._indices(number, rank, processes):
                ready.append(pool.submit(self._make, index, number))
                if len(ready) > _AHEAD:
                    yield ready.popleft().result()
            while ready:
                yield ready.popleft().result()

    def plain(self, number: int, images: int, rank: int = 0, processes: int = 1) -> Iterator[Batch]:
        """Batches of about so many of an epoch's images, as they are."""
        for index in islice(self._indices(number, rank, processes), -(-images // self.size)):
            pixels = self._pixels[index]
            yield Batch(index, pixels, pixels)

    def _indices(self, number: int, rank: int, processes: int) -> Iterator[NDArray[np.intp]]:
        order = np.random.default_rng([self._settings.seed, number]).permutation(self._train)
        for batch in order[: self.count * self.size].reshape(self.count, -1):
            yield np.sort(batch)[rank::processes]

    def _make(self, index: NDArray[np.intp], epoch: int) -> Batch:
        clean = self._pixels[index]
        if self._settings.augmentation:
            clean = self._altered(clean, index, epoch, "augmentation", augment)
        shown = clean
        if self._settings.corruption:
            shown = self._altered(clean, index, epoch, "corruption", self._with_defects)
        return Batch(index, clean, shown)

    def _altered(
        self,
        images: NDArray[np.uint8],
        index: NDArray[np.intp],
        epoch: int,
        what: str,
        alter: Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]],
    ) -> NDArray[np.uint8]:
        seeds = ([self._settings.seed, epoch, int(place), *what.encode()] for place in index)
        return np.stack([alter(image, np.random.default_rng(seed)) for image, seed in zip(images, seeds, strict=True)])

    def _with_defects(self, image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
        if generator.random() >= self._settings.corruption:
            return image
        return corrupt(image, self._pixels[int(generator.choice(self._train))], generator)
