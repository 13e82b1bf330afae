"""Which blocks of a network suffer from quantization: one at a time in INT8, all others in floating point.

Measured through the engine on held-out good images, and on the same images with artificial defects, so that there is
an order of scores which can be lost. What is found is kept in the run's folder, block by block.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.progress import track

from build_engines import run
from build_engines.agreement import Differences, differences
from build_engines.data.corruption import corrupt
from build_engines.finished_run import FinishedRun
from build_engines.quantization.blocks import blocks_of, layers_of
from build_engines.quantization.settings import QuantizeSettings
from engines.backends import RawResult
from engines.files import sha256_of, write_atomic

RECORD = "sensitivity.json"
# Held-out good images in all, as evenly from the classes as they have them; as many with defects.
IMAGES = 96
# Less is what two runs of rounding make by chance.
_FAINTEST = 1e-9


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BlockDamage(_Part):
    """What a block costs.

    Attributes:
        alone: with this block alone quantized, against the float32 engine.
        without: with all blocks quantized but this one, against the float32 engine.
    """

    alone: Differences
    without: Differences


class Sensitivity(_Part):
    """What was measured with one choice of quantization.

    Attributes:
        calibration, calibrator, calibration_images, equalization, weight_bits, activation_bits: of `QuantizeSettings`.
        images: good images, and as many with defects.
        all_blocks: with everything quantized.
        blocks: what each block costs, of those measured so far.
    """

    calibration: str
    calibrator: str
    calibration_images: int | None
    equalization: float
    weight_bits: int
    activation_bits: int
    images: int = 0
    all_blocks: Differences | None = None
    blocks: dict[str, BlockDamage] = {}

    def damage(self) -> dict[str, float]:
        """Each block's share in what all of them do alone, summing to 1, most harmful first.

        Half of it is the share in lost order (1 - Spearman), half the share in the maps' error.
        """
        orders = {name: max(1 - found.alone.score_order_spearman, 0.0) for name, found in self.blocks.items()}
        errors = {name: found.alone.map_error_relative for name, found in self.blocks.items()}
        totals = [max(sum(values.values()), _FAINTEST) for values in (orders, errors)]
        shares = {name: 0.5 * orders[name] / totals[0] + 0.5 * errors[name] / totals[1] for name in self.blocks}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    @property
    def ranking(self) -> list[str]:
        """Block names, the most harmful first."""
        return list(self.damage())


class _Record(_Part):
    """`sensitivity.json`: of the student and teacher with these digests, whatever choices were measured."""

    student: str
    teacher: str
    measured: list[Sensitivity] = []


def measure(source: FinishedRun, settings: QuantizeSettings) -> Sensitivity:
    """Measure every block that the run's folder does not know yet. Shows progress; can be interrupted and called again.

    Of the run's own student: `keep_fp16` and fine-tuning play no part. Raises DataError where there are too few
    calibration images.
    """
    blocks = blocks_of(source.exported.model)
    found = recall(source, settings)
    if found.all_blocks is not None and found.blocks.keys() == blocks.keys():
        return found
    calibration = source.calibration(replace(settings, mode="ptq", fine_tuning_epochs=0))
    images = _images(source)
    expected = _run(source, source.exported.model, images)
    every = layers_of(blocks, blocks)

    def damage(kept: Collection[str]) -> Differences:
        return differences(expected, _run(source, calibration.quantized(settings, kept).model, images))

    if found.all_blocks is None:
        found = found.model_copy(update={"images": _count(images) // 2, "all_blocks": damage(())})
    for name in track([name for name in blocks if name not in found.blocks], "Sensitivity"):
        others = [layer for layer in every if layer not in blocks[name]]
        measured = BlockDamage(alone=damage(others), without=damage(blocks[name]))
        found = found.model_copy(update={"blocks": {**found.blocks, name: measured}})
        _remember(source, found, settings)
    return found


def recall(source: FinishedRun, settings: QuantizeSettings) -> Sensitivity:
    """What the run's folder knows already of this very student, teacher and choice of quantization."""
    return next((one for one in _read(source).measured if _is_of(one, settings)), _begin(settings))


def _begin(settings: QuantizeSettings) -> Sensitivity:
    return Sensitivity(
        calibration=settings.calibration,
        calibrator=settings.calibrator,
        calibration_images=settings.images,
        equalization=settings.equalization,
        weight_bits=settings.weight_bits,
        activation_bits=settings.activation_bits,
    )


def _is_of(found: Sensitivity, settings: QuantizeSettings) -> bool:
    unmeasured = {"images": 0, "all_blocks": None, "blocks": {}}
    return found.model_copy(update=unmeasured) == _begin(settings)


def _read(source: FinishedRun) -> _Record:
    empty = _Record(student=sha256_of(source.folder / run.STUDENT), teacher=source.record.teacher.sha256)
    try:
        record = _Record.model_validate_json((source.folder / RECORD).read_bytes())
    except (FileNotFoundError, ValidationError):
        return empty
    return record if (record.student, record.teacher) == (empty.student, empty.teacher) else empty


def _remember(source: FinishedRun, found: Sensitivity, settings: QuantizeSettings) -> None:
    record = _read(source)
    others = [one for one in record.measured if not _is_of(one, settings)]
    record = record.model_copy(update={"measured": [*others, found]})
    write_atomic(source.folder / RECORD, (record.model_dump_json(indent=1) + "\n").encode())


def _images(source: FinishedRun) -> dict[str, NDArray[np.uint8]]:
    """Held-out good images by class, then the same with defects."""
    held_out = source.images.held_out
    each = -(-IMAGES // len(held_out))
    chosen = {}
    for number, (name, good) in enumerate(held_out.items()):
        generator = np.random.default_rng([source.record.settings.seed, number])
        good = good[generator.permutation(len(good))[:each]]
        others = generator.permutation(len(good))
        bad = [corrupt(one, good[other], generator) for one, other in zip(good, others, strict=True)]
        chosen[name] = np.concatenate([good, bad])
    return chosen


def _count(images: Mapping[str, NDArray[np.uint8]]) -> int:
    return sum(map(len, images.values()))


def _run(source: FinishedRun, model: ModelProto, images: Mapping[str, NDArray[np.uint8]]) -> dict[str, RawResult]:
    # One at a time: another batch size would be compiled for, which takes longer than it saves.
    with source.engine(model) as backend:
        return {
            name: RawResult.joined([backend.run(pixels[i : i + 1]) for i in range(len(pixels))])
            for name, pixels in images.items()
        }
