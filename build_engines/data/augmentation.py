"""What a camera over a line varies of itself: where the part lies by a few pixels, brightness and contrast."""

import cv2
import numpy as np
from numpy.typing import NDArray

_SHIFT = 0.03  # of the image's side
_LIGHT = 0.1


def augment(image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A copy of a picture uint8 [H, W, 3], shifted by up to 3 % and with up to 10 % other brightness and contrast.

    What moves in from outside repeats the border: a part wrapped around would be one that is never made. No flips or
    turns, for a part that lies wrongly is a defect.
    """
    height, width, _ = image.shape
    down, across = (round(generator.uniform(-_SHIFT, _SHIFT) * side) for side in (height, width))
    brightness, contrast = generator.uniform(1.0 - _LIGHT, 1.0 + _LIGHT, 2)
    middle = image.mean()
    levels = (np.arange(256) - middle) * contrast + middle * brightness
    table = np.rint(levels).clip(0, 255).astype(np.uint8)
    margins = (max(down, 0), max(-down, 0), max(across, 0), max(-across, 0))
    bordered = cv2.copyMakeBorder(cv2.LUT(image, table), *margins, cv2.BORDER_REPLICATE)
    top, left = max(-down, 0), max(-across, 0)
    return np.asarray(bordered[top : top + height, left : left + width], np.uint8)
