"""`build-engines train` and `build-engines recipes`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from rich.console import Console

from build_engines import run, torchrun
from build_engines.commands.options import ArgumentError
from build_engines.data.folder import find_parts
from build_engines.errors import RunError
from build_engines.processes import from_first, gathered, joined
from build_engines.recipe import Recipe, check_recipe, read_recipe, shipped_recipes
from build_engines.training import start_record, train

_FLAGS = {"augmentation": "--augment", "optimizer.learning_rate": "--lr", "options": "--option"}


def train_run(
    *,
    data: Path,
    out: Path,
    console: Console,
    resume: bool = False,
    recipe: str | None = None,
    learning_rate: float | None = None,
    options: dict[str, Any] | None = None,
    **asked: Any,
) -> None:
    """Start a run, or go on with one when `resume` and all else is what it began with.

    Where torchrun has started this process, it and the others train one run together; the first writes and prints.

    Args:
        data: folder of parts.
        out: folder of the run.
        console: what the outcome is printed on.
        resume: go on with the run in `out`, if there is one.
        recipe: name of a shipped one, or path of a YAML file.
        learning_rate: of the optimiser.
        options: of the method alone.
        asked: other keys of `Recipe`. What is not None goes before the recipe, and this before the method's own.
    """
    asked = {key: value for key, value in asked.items() if value is not None}
    if learning_rate is not None:
        asked["optimizer"] = {**asked.get("optimizer", {}), "learning_rate": learning_rate}
    if options:
        asked["options"] = options
    chosen, settings = _merged(recipe, _with_processes(asked))
    device = _device(chosen)
    with joined(device) as group:
        if group is not None:
            _check_folder(group, out)
        record, begun = from_first(group, lambda: _begun(data, out, chosen, settings, device, resume))
        if record.is_finished:
            _say(group, console, f"The run {out} is finished: {_end(record)}.")
            return
        train(out, record, begun, group)
        _say(group, console, from_first(group, lambda: _outcome(out)))


def list_recipes(console: Console) -> None:
    """Print name, method and first comment of each shipped recipe."""
    for path in shipped_recipes():
        method = read_recipe(path.stem).get("method", "any")
        comment = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        console.print(f"{path.stem:12} {method:6} {comment}", highlight=False, soft_wrap=True)


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Options of a method from KEY=VALUE, the value as a recipe would have it. Raises ArgumentError."""
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals or not key:
            raise ArgumentError(f"--option {pair!r} is not KEY=VALUE, with a value as YAML has it.")
    return options


def _with_processes(asked: dict[str, Any]) -> dict[str, Any]:
    place = torchrun.place()
    if place is None:
        return asked
    if asked.get("devices", place.processes) != place.processes:
        raise ArgumentError(
            f"--devices {asked['devices']}: torchrun has started {place.processes} processes; leave --devices out."
        )
    return {**asked, "devices": place.processes}


def _check_folder(group: Fabric, out: Path) -> None:
    """Raises RunError where the run is another machine's than the first, which would begin it anew."""
    first, *others = gathered(group, (out / run.RECORD).exists())
    if any(others) and not first:
        raise RunError(
            f"The run {out} is not on the first machine, but on another; give that one --node-rank 0, or all a folder "
            "that they share."
        )


def _begun(
    data: Path, out: Path, chosen: Recipe, settings: run.TrainSettings, device: str, resume: bool
) -> tuple[run.RunRecord, bool]:
    """The record of the run, in its folder too, and whether there was one."""
    begun = (out / run.RECORD).exists()
    if begun and not resume:
        raise RunError(f"{out} holds a run already; say --resume to go on with it, or give another --out.")
    parts = find_parts(data, chosen.classes)
    place = torchrun.place()
    machines = 1 if place is None else place.machines
    record = start_record(data, parts, settings, chosen.teacher_weights, device, chosen.devices, machines)
    images = sum(record.data.train.values()) * (len(settings.grid) if settings.grid else 1)
    if chosen.devices > images:
        raise RunError(f"{chosen.devices} processes cannot share {images} training images; start fewer.")
    if begun:
        record = _continued(out, record)
    if not record.is_finished:
        out.mkdir(parents=True, exist_ok=True)
        run.save(out, record)
    return record, begun


def _outcome(out: Path) -> str:
    done = run.load(out)
    best = done.history[done.best_epoch - 1]
    return (
        f"Trained {len(done.split)} part classes on {sum(done.data.train.values())} images in {done.seconds:.0f} s: "
        f"{_end(done)}; epoch {done.best_epoch} is best, held-out loss {best.held_out_loss:.4f}. Run: {out}"
    )


def _say(group: Fabric | None, console: Console, sentence: str) -> None:
    if group is None or group.is_global_zero:
        console.print(sentence)


def _merged(name: str | None, asked: dict[str, Any]) -> tuple[Recipe, run.TrainSettings]:
    values = read_recipe(name) if name else {}
    both = {**values, **asked}
    for key in ("optimizer", "options"):
        if isinstance(values.get(key), dict) and key in asked:
            both[key] = {**values[key], **asked[key]}
    return check_recipe(both, lambda key: _flag(key) if _holds(asked, key) or not name else f"{key} in recipe {name}")


def _holds(asked: dict[str, Any], key: str) -> bool:
    first, *rest = key.split(".", 1)
    return first in asked and (not rest or not isinstance(asked[first], dict) or rest[0] in asked[first])


def _flag(key: str) -> str:
    first, *rest = key.split(".", 1)
    if first == "options" and rest:
        return f"{_FLAGS[first]} {rest[0]}"
    return _FLAGS.get(key, f"--{key.replace('_', '-')}")


def _continued(out: Path, asked: run.RunRecord) -> run.RunRecord:
    begun = run.load(out)
    for what, before, now in (
        ("settings", begun.settings, asked.settings),
        ("images", begun.data, asked.data),
        ("teacher weights", begun.teacher.sha256, asked.teacher.sha256),
    ):
        if before != now:
            raise RunError(f"The run {out} began with other {what}; resume it with the same, or give another --out.")
    others = ("device", "devices", "machines", "data_folder")
    return begun.model_copy(update={name: getattr(asked, name) for name in others})


def _end(record: run.RunRecord) -> str:
    epochs = f"{len(record.history)} of {record.settings.epochs} epochs"
    return f"{epochs}, stopped early" if record.stopped_early else epochs


def _device(recipe: Recipe) -> str:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if recipe.device == "cpu" or (recipe.device == "auto" and not found):
        return "cpu"
    if not found:
        raise ArgumentError("--device cuda: PyTorch finds no GPU here; say --device cpu.")
    place = torchrun.place()
    asked, option = (recipe.devices, "--devices") if place is None else (place.here, "torchrun --nproc-per-node")
    if asked > found:
        raise ArgumentError(f"{option} {asked}: PyTorch finds {found} GPUs here; ask for no more.")
    return "cuda"
