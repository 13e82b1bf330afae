"""`build-engines sensitivity`."""

from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from build_engines.commands.quantize import choose_quantization
from build_engines.finished_run import FinishedRun
from build_engines.quantization import defaults
from build_engines.quantization.sensitivity import Sensitivity, measure
from build_engines.quantization.settings import QuantizeSettings
from engines.files import write_atomic


def measure_run(
    run_folder: Path,
    *,
    console: Console,
    out: Path | None = None,
    calibration: str = "train",
    calibrator: str = defaults.CALIBRATOR,
    images: int | None = None,
    equalization: float = defaults.EQUALIZATION,
    weight_bits: int = 8,
    activation_bits: int = 8,
) -> None:
    """Rank a run's blocks by what quantizing them costs; print the table, and write JSON where asked.

    The options are those of `quantize_run`; what is measured is kept in the run's folder.
    """
    choose_quantization(calibration, calibrator, weight_bits, activation_bits)
    settings = QuantizeSettings(
        precision="int8",
        calibration=calibration,
        calibrator=calibrator,
        images=images,
        equalization=equalization,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )
    found = measure(FinishedRun(run_folder), settings)
    console.print(_table(found))
    console.print(
        f"Against FP32, on {found.images} held-out good images and the same with artificial defects. Order: 1 - "
        "Spearman of the scores. Error: of the maps, relative. Each block quantized alone; 'without': all but it. "
        "To leave the first N in FP16: build-engines quantize --keep-fp16 auto:N."
    )
    if out is not None:
        content = found.model_copy(update={"blocks": {name: found.blocks[name] for name in found.ranking}})
        write_atomic(out, (content.model_dump_json(indent=1) + "\n").encode())


def _table(found: Sensitivity) -> Table:
    table = Table(Column("Block", no_wrap=True), "Damage", "Order", "Error", "Order without", "Error without")
    for name, damage in found.damage().items():
        measured = found.blocks[name]
        columns = (measured.alone, measured.without)
        figures = [(1 - one.score_order_spearman, one.map_error_relative) for one in columns]
        table.add_row(name, f"{damage:.1%}", *(f"{value:.4f}" for pair in figures for value in pair))
    if found.all_blocks is not None:
        table.add_section()
        total = found.all_blocks
        table.add_row("all blocks", "", f"{1 - total.score_order_spearman:.4f}", f"{total.map_error_relative:.4f}")
    return table
