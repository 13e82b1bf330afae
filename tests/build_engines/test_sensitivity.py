"""Blocks ranked by what quantizing them costs, kept in the run's folder, and kept in FP16 where asked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from build_engines.commands.quantize import quantize_run
from build_engines.commands.sensitivity import measure_run
from build_engines.finished_run import FinishedRun
from build_engines.quantization.blocks import blocks_of
from build_engines.quantization.sensitivity import RECORD, Sensitivity, recall
from build_engines.quantization.settings import QuantizeSettings
from engines import bundle as bundles

# Four bits, where damage is plain.
BITS = 4
SETTINGS = QuantizeSettings("int8", images=8, weight_bits=BITS, activation_bits=BITS)


@pytest.fixture(scope="module")
def measured(run_folder: Path, tmp_path_factory: pytest.TempPathFactory, console: Console) -> Path:
    """A copy of the run, measured with weights and activations of four bits."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(run_folder, folder)
    measure_run(folder, console=console, out=folder / "out.json", images=8, weight_bits=BITS, activation_bits=BITS)
    return folder


@pytest.fixture(scope="module")
def found(measured: Path) -> Sensitivity:
    return Sensitivity.model_validate_json((measured / "out.json").read_text())


def test_every_block_is_measured_on_good_and_corrupted_images(found: Sensitivity) -> None:
    assert len(found.blocks) == 14
    assert found.images == 12
    assert list(found.blocks) == found.ranking


def test_one_block_harms_less_than_all_and_all_but_it_no_more(found: Sensitivity) -> None:
    assert found.all_blocks is not None
    total = found.all_blocks.map_error_relative
    alone = [block.alone.map_error_relative for block in found.blocks.values()]
    assert min(alone) > 1e-4
    assert max(alone) < total
    # Errors of blocks can cancel, so that a single one may be worse without.
    without = [block.without.map_error_relative for block in found.blocks.values()]
    assert min(without) < 0.97 * total
    assert sum(one < 1.02 * total for one in without) > 7


def test_damage_is_shared_out(found: Sensitivity) -> None:
    shares = list(found.damage().values())
    assert abs(sum(shares) - 1) < 1e-9
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 2 * shares[-1]


def test_interrupted_measurement_goes_on(measured: Path, tmp_path: Path, console: Console) -> None:
    """Blocks that are there are not measured again: a figure that was changed by hand stays."""
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    record = json.loads((folder / RECORD).read_text())
    blocks = record["measured"][0]["blocks"]
    removed = blocks.pop("student.layer1.0")
    blocks["teacher.conv1"]["alone"]["map_error_relative"] = 123.0
    (folder / RECORD).write_text(json.dumps(record))
    measure_run(folder, console=console, images=8, weight_bits=BITS, activation_bits=BITS)
    found = recall(FinishedRun(folder), SETTINGS)
    assert found.ranking[0] == "teacher.conv1"
    assert found.blocks["teacher.conv1"].alone.map_error_relative == 123.0
    once = removed["alone"]["map_error_relative"]
    assert found.blocks["student.layer1.0"].alone.map_error_relative == pytest.approx(once, rel=1e-3)


@pytest.mark.parametrize("change", ["student", "teacher", "torn"])
def test_what_was_measured_of_another_network_is_forgotten(measured: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    assert len(recall(FinishedRun(folder), SETTINGS).blocks) == 14
    text = (folder / RECORD).read_text()
    record = json.loads(text)
    (folder / RECORD).write_text(text[:-20] if change == "torn" else json.dumps(record | {change: "0" * 64}))
    assert recall(FinishedRun(folder), SETTINGS).blocks == {}


def test_another_choice_of_quantization_is_another_measurement(measured: Path) -> None:
    source = FinishedRun(measured)
    for change in ({"weight_bits": 8}, {"calibrator": "minmax"}, {"images": 9}, {"equalization": 0.0}):
        assert recall(source, replace(SETTINGS, **change)).blocks == {}
    assert recall(source, replace(SETTINGS, keep_fp16="auto:2", mode="qat", fine_tuning_epochs=2)).blocks


def test_the_most_harmful_blocks_stay_in_half_floats(
    measured: Path, found: Sensitivity, tmp_path: Path, console: Console
) -> None:
    quantize_run(
        measured,
        tmp_path / "kept",
        images=8,
        weight_bits=BITS,
        activation_bits=BITS,
        keep_fp16="auto:3",
        console=console,
    )
    manifest = bundles.load(tmp_path / "kept").manifest
    assert manifest.quantization is not None
    kept = manifest.quantization.float_layers
    blocks = blocks_of(FinishedRun(measured).exported.model)
    assert kept == [layer for name in found.ranking[:3] for layer in blocks[name]]
    assert len(kept) + len(manifest.quantization.quantized_layers) == 30
    assert found.all_blocks is not None
    error = manifest.metrics["against_fp32"]["map_error_relative"]  # type: ignore[index, call-overload]
    assert error < found.all_blocks.map_error_relative
