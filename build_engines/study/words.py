"""Small pieces of sentences."""

from collections.abc import Iterable, Sequence

# What a cheaper engine may cost in mean image AUROC before it is called a loss: the project's own aim.
TOLERANCE = 0.005


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def times(count: int, word: str) -> str:
    """`1 class`, `3 classes`."""
    plural = word + ("es" if word.endswith("s") else "s")
    return f"{count} {word if count == 1 else plural}"


def spread(values: Sequence[float]) -> str:
    """The range of figures with one digit: `3.8 to 3.9`, or one figure where they are alike."""
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
