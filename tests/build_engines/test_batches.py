"""Batches of training images, and what is done to them on the way."""

import numpy as np
import pytest
from numpy.typing import NDArray

from build_engines.batches import Batch, TrainingBatches
from build_engines.data.augmentation import augment
from build_engines.recipe import check_recipe

SIDE = 64
HELD_OUT = 5


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """40 pictures, each of an even grey of its own."""
    return np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None] * 4 + 40, (40, SIDE, SIDE, 3)).copy()


def batches(pixels: NDArray[np.uint8], **asked: object) -> TrainingBatches:
    _, settings = check_recipe({"batch_size": 8, **asked}, str)
    return TrainingBatches(pixels, np.arange(HELD_OUT, len(pixels)), settings)


def joined(found: list[Batch]) -> tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.uint8]]:
    return tuple(np.concatenate([getattr(batch, name) for batch in found]) for name in ("index", "clean", "shown"))  # type: ignore[return-value]


def test_plain_batches_hold_training_images_once(pixels: NDArray[np.uint8]) -> None:
    found = list(batches(pixels).epoch(0))
    index, clean, shown = joined(found)
    assert [len(batch.index) for batch in found] == [8, 8, 8, 8]
    assert len(set(index.tolist())) == 32
    assert index.min() >= HELD_OUT
    assert np.array_equal(clean, pixels[index])
    assert np.array_equal(shown, clean)


def test_processes_share_each_batch(pixels: NDArray[np.uint8]) -> None:
    asked = {"corruption": 0.5, "augmentation": True}
    whole = list(batches(pixels, **asked).epoch(3))
    shares = [list(batches(pixels, **asked).epoch(3, rank, 3)) for rank in range(3)]
    for number, batch in enumerate(whole):
        index, clean, shown = joined([share[number] for share in shares])
        order = np.argsort(index)
        assert np.array_equal(index[order], batch.index)
        assert np.array_equal(clean[order], batch.clean)
        assert np.array_equal(shown[order], batch.shown)


def test_an_epoch_is_the_same_whatever_was_made_before(pixels: NDArray[np.uint8]) -> None:
    asked = {"corruption": 0.5, "augmentation": True}
    first = batches(pixels, **asked)
    once, again = joined(list(first.epoch(2))), joined(list(batches(pixels, **asked).epoch(2)))
    other_epoch, other_seed = joined(list(first.epoch(4))), joined(list(batches(pixels, seed=1, **asked).epoch(2)))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[2], other_epoch[2])
    assert not np.array_equal(once[2], other_seed[2])


def test_only_the_student_sees_defects(pixels: NDArray[np.uint8]) -> None:
    index, clean, shown = joined(
        [batch for epoch in range(10) for batch in batches(pixels, corruption=0.4).epoch(epoch)]
    )
    assert np.array_equal(clean, pixels[index])
    damaged = (shown != clean).any(axis=(1, 2, 3))
    assert 0.3 < damaged.mean() < 0.5


def test_augmentation_shifts_without_wrapping_and_changes_light_a_little() -> None:
    """A ramp from left to right stays one, whatever moves in from outside."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None] // 2 + 50, (100, 200, 3))
    light = []
    for seed in range(50):
        altered = augment(ramp, np.random.default_rng(seed))
        assert altered.shape == ramp.shape
        assert (np.diff(altered.astype(int), axis=1) >= 0).all()
        light.append(altered.mean() / ramp.mean())
    assert 0.86 < min(light) < 0.95
    assert 1.05 < max(light) < 1.14


def test_augmentation_moves_by_up_to_three_percent() -> None:
    dot = np.zeros((100, 200, 3), np.uint8)
    dot[50, 100] = 255
    places = []
    for seed in range(80):
        altered = augment(dot, np.random.default_rng(seed))
        row, column, _ = np.unravel_index(altered.argmax(), altered.shape)
        places.append((row - 50, column - 100))
    rows, columns = np.abs(np.array(places)).T
    assert rows.max() == 3
    assert columns.max() == 6
