"""Pictures of a run."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from build_engines.run import RunRecord
from engines.files import write_atomic


def plot_curve(path: Path, record: RunRecord) -> None:
    """Write the training curve as PNG: losses on training and held-out good images over epochs."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(record.history) + 1)
    axes.plot(epochs, [epoch.train_loss for epoch in record.history], label="training images")
    axes.plot(epochs, [epoch.held_out_loss for epoch in record.history], label="held-out good images")
    axes.axvline(record.best_epoch, color="grey", linestyle=":", label=f"chosen: epoch {record.best_epoch}")
    axes.set(
        xlabel="epoch", ylabel="loss", yscale="log", title=f"{record.settings.method}, {len(record.split)} part classes"
    )
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())
