"""Fine-tuning of a run's student inside the exported graph: with the integers' rounding for QAT, without for control.

The teacher's side of the graph is rounded as it will be in the engine, so that the student learns what it will meet
there. Straight-through gradients (Jacob et al. 2018, arXiv 1712.05877, section 3); ranges stay those of calibration.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from onnx import ModelProto
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from build_engines.batches import Batch, TrainingBatches
from build_engines.errors import RunError
from build_engines.export import Exported
from build_engines.methods.base import Method
from build_engines.precision import mixed_precision
from build_engines.quantization.equalization import restored
from build_engines.quantization.torch_graph import Rounding, TorchGraph
from engines.files import replace_synced

FOLDER = "fine_tuning"
LEARNING_RATE = 1e-5
_STUDENT, _FROZEN = "student", "teacher"


def fine_tune(
    graph: TorchGraph, targets: int, method: Method, batches: TrainingBatches, epochs: int, file: Path
) -> None:
    """Train a graph's parameters in place with the method's own loss, Adam and a cosine schedule.

    Args:
        graph: gives the method's targets, so many, then its features.
        method: compares the two.
        batches: of the run, altered as its settings ask.
        file: checkpoint, written after each epoch; a finished or interrupted training is taken up from it.

    Raises RunError where the loss is no number.
    """
    steps = batches.count
    optimizer = torch.optim.Adam(graph.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    parts = {"graph": graph, "optimizer": optimizer, "schedule": schedule}
    begun = 0
    if file.is_file():
        state = torch.load(file, weights_only=True)
        begun = state.pop("epochs")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("Fine-tuning", total=epochs * steps, completed=begun * steps)
        for epoch in range(begun, epochs):
            for batch in batches.epoch(epoch):
                loss = _loss(graph, targets, method, batch)
                if not torch.isfinite(loss):
                    raise RunError("The loss of fine-tuning is no number; give fewer --epochs or use --mode ptq.")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update(task, advance=1, description=f"Fine-tuning  loss {loss.item():.4f}")
            scratch = file.with_suffix(".tmp")
            torch.save({"epochs": epoch + 1, **{name: part.state_dict() for name, part in parts.items()}}, scratch)
            replace_synced(scratch, file)


def fine_tuned(
    exported: Exported,
    model: ModelProto,
    method: Method,
    batches: TrainingBatches,
    epochs: int,
    folder: Path,
    settings: Mapping[str, object],
    rounding: Rounding | None = None,
) -> ModelProto:
    """A copy of `model`, the exported graph or an equalized one, with a fine-tuned student.

    Args:
        folder: of the run; checkpoints are kept in it.
        settings: what tells this fine-tuning from the others of the run.
        rounding: None for fine-tuning in floating point.
    """
    outputs = restored(model, (*exported.targets, *exported.features))
    trained = [node.name for node in model.graph.node if node.op_type == "Conv" and _is_trained(node.name)]
    graph = TorchGraph(model, outputs, trained, rounding)
    key = hashlib.sha256(json.dumps({**settings, "epochs": epochs}, sort_keys=True).encode())
    file = folder / FOLDER / f"{key.hexdigest()[:16]}.ckpt"
    file.parent.mkdir(exist_ok=True)
    # The comparison's own parameters, DCAM's attention, stay as training left them.
    method.requires_grad_(False)
    fine_tune(graph, len(exported.targets), method, batches, epochs, file)
    return graph.write_into(model)


def _loss(graph: TorchGraph, targets: int, method: Method, batch: Batch) -> torch.Tensor:
    with mixed_precision(torch.device("cpu")):
        found = graph(torch.from_numpy(batch.shown))
        wanted = found[:targets]
        if batch.shown is not batch.clean:
            with torch.no_grad():
                wanted = graph(torch.from_numpy(batch.clean))[:targets]
        return method.compare(wanted, found[targets:])


def _is_trained(name: str) -> bool:
    """Whether a convolution is the student's, by the module path that the exporter gives it."""
    parts = name.replace(".", "/").split("/")
    return _STUDENT in parts and _FROZEN not in parts
