"""The good images of a run, as it split them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from build_engines.data.folder import fingerprint, read_images
from build_engines.errors import DataError
from build_engines.run import RunRecord


@dataclass(frozen=True)
class SplitImages:
    """Good images by class, uint8 [N, H, W, 3]."""

    train: dict[str, NDArray[np.uint8]]
    held_out: dict[str, NDArray[np.uint8]]

    @classmethod
    def read(cls, record: RunRecord) -> "SplitImages":
        """The images of a run. Raises DataError where they are gone, changed or unreadable."""
        size = record.settings.image_size
        paths = [record.data_folder / name for part in record.split for name in (*part.train, *part.held_out)]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise DataError(f"{missing}, an image of the run, is gone; put the data folder back where it was.")
        if fingerprint(record.data_folder, paths) != record.data.sha256:
            raise DataError(f"The images in {record.data_folder} changed since the run; put them back or train again.")
        pixels = iter(read_images(paths, size, size, "good images"))
        train, held_out = {}, {}
        for part in record.split:
            train[part.name] = np.stack([next(pixels) for _ in part.train])
            held_out[part.name] = np.stack([next(pixels) for _ in part.held_out])
        return cls(train, held_out)

    def calibration(self, count: int, seed: int) -> NDArray[np.uint8]:
        """`count` training images, drawn evenly over classes. Raises DataError where there are fewer."""
        available = sum(len(pixels) for pixels in self.train.values())
        if count > available:
            raise DataError(f"Calibration asks for {count} training images and the run has {available}; ask for fewer.")
        generator = np.random.default_rng(seed)
        shuffled = [list(generator.permutation(pixels)) for pixels in self.train.values()]
        drawn: list[NDArray[np.uint8]] = []
        while len(drawn) < count:
            drawn += [pixels.pop() for pixels in shuffled if pixels]
        return np.stack(drawn[:count])
