"""Who knows what a worker was at when it died: a picture that kills whoever reads it must not do so for ever."""

from collections import Counter
from dataclasses import dataclass

# One death may be of the machine's; the second at the same picture is the picture's.
_DEATHS_OF_A_PICTURE = 2
_MOST_ATTEMPTS = 5


@dataclass(frozen=True)
class Attempt:
    """How a worker is to go about a chunk.

    Attributes:
        is_careful: tell the witness of each image before it is read, for an attempt before this one ended in a death.
        deadly: places of images in the chunk that are not to be read.
        is_hopeless: workers died too often, at no image in particular; the chunk is to be given up.
    """

    is_careful: bool
    deadly: frozenset[int]
    is_hopeless: bool


class Witness:
    """Outlives the workers, as a Ray actor, and is told by them what they begin."""

    def __init__(self) -> None:
        self._attempts: Counter[int] = Counter()
        self._at: dict[int, int] = {}
        self._deaths: Counter[tuple[int, int]] = Counter()

    def begin(self, chunk: int) -> Attempt:
        """A worker begins a chunk; where another one began it before, that one died."""
        if chunk in self._at:
            place = chunk, self._at.pop(chunk)
            self._deaths[place] += 1
            if self._deaths[place] == _DEATHS_OF_A_PICTURE:
                # Without the picture the chunk starts afresh, and as carefully.
                self._attempts[chunk] = 1
        self._attempts[chunk] += 1
        deadly = {
            index for (one, index), count in self._deaths.items() if one == chunk and count >= _DEATHS_OF_A_PICTURE
        }
        attempts = self._attempts[chunk]
        return Attempt(attempts > 1, frozenset(deadly), attempts > _MOST_ATTEMPTS)

    def reached(self, chunk: int, index: int) -> None:
        """A careful worker begins an image."""
        self._at[chunk] = index
