"""Training: the student learns the teacher's features of good images of all part classes, shuffled together."""

import time
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric, seed_everything

from build_engines import run
from build_engines.data.folder import PartFolder, fingerprint
from build_engines.errors import RunError
from build_engines.libraries import versions
from build_engines.methods import build_method
from build_engines.methods.base import Method
from build_engines.networks.weights import load_teacher
from build_engines.processes import from_first, launch, share_state, together
from build_engines.shared_batch_norm import share_statistics
from build_engines.split_images import SplitImages
from build_engines.targets import TargetStore
from build_engines.trainer import Trainer
from engines.bundle import DataFingerprint


def split_parts(root: Path, parts: list[PartFolder], share: float, seed: int) -> list[run.ClassSplit]:
    """Hold out `share` of each class's good images, at least one, drawn by `seed` and the class's name alone.

    A class is split alike in a unified and in a one-class run.
    """
    splits = []
    for part in parts:
        names = [path.relative_to(root).as_posix() for path in part.train]
        order = np.random.default_rng([seed, *part.name.encode()]).permutation(len(names))
        count = max(1, round(share * len(names)))
        held_out = set(order[:count].tolist())
        splits.append(
            run.ClassSplit(
                name=part.name,
                train=[name for i, name in enumerate(names) if i not in held_out],
                held_out=[name for i, name in enumerate(names) if i in held_out],
            )
        )
    return splits


def start_record(
    root: Path,
    parts: list[PartFolder],
    settings: run.TrainSettings,
    teacher_weights: str | None,
    device: str,
    devices: int = 1,
    machines: int = 1,
) -> run.RunRecord:
    """The record of a run that has not begun. Raises WeightsError where the teacher cannot be loaded."""
    split = split_parts(root, parts, settings.held_out, settings.seed)
    _, teacher = load_teacher(settings.teacher, teacher_weights)
    return run.RunRecord(
        settings=settings,
        teacher=teacher,
        teacher_weights=teacher_weights,
        data_folder=root.resolve(),
        data=DataFingerprint(
            sha256=fingerprint(root, [path for part in parts for path in part.train]),
            train={part.name: len(part.train) for part in split},
            held_out={part.name: len(part.held_out) for part in split},
        ),
        split=split,
        device=device,
        devices=devices,
        machines=machines,
        libraries=versions(),
    )


def method_of(record: run.RunRecord) -> Method:
    """Teacher and untrained student of a run.

    Raises:
        WeightsError: the teacher's file is gone.
        RunError: it is another file than the run began with.
    """
    teacher, found = load_teacher(record.settings.teacher, record.teacher_weights)
    if found.sha256 != record.teacher.sha256:
        raise RunError(f"The teacher weights {found.weights} differ from those the run began with; give the same file.")
    settings = record.settings
    return build_method(settings.method, teacher, settings.teacher, settings.options, settings.seed)


def train(folder: Path, record: run.RunRecord, resume: bool, group: Fabric | None = None) -> None:
    """Train a run to its end; after each epoch, checkpoint and record are on disk.

    Args:
        folder: the run's; of several machines it is the first one's that counts.
        record: from `start_record`, or from `run.load` when resuming.
        resume: continue from the checkpoint.
        group: the processes that train, this one among them; None to start as many as the record says.

    Raises:
        DataError: images that are gone, changed or unreadable.
        RunError: the loss is no number, or a process was killed.
    """
    if group is None:
        launch(_train_here, record.device, record.devices, folder, record, resume)
    else:
        _train_here(group, folder, record, resume)


def _train_here(fabric: Fabric, folder: Path, record: run.RunRecord, resume: bool) -> None:
    settings = record.settings
    seed_everything(settings.seed, verbose=False)
    images = together(fabric, lambda: SplitImages.read(record).for_network())
    method = _method_on_each_machine(fabric, record).to(memory_format=torch.channels_last)
    if fabric.world_size > 1:
        share_statistics(method.student)
    fabric.to_device(method)
    began = time.perf_counter()
    training = images.only(~images.held_out)
    from_first(fabric, lambda: method.prepare(training, folder, settings.seed, fabric.device))
    share_state(fabric, method.student)
    record = record.model_copy(update={"seconds": record.seconds + time.perf_counter() - began})
    store = TargetStore(folder, fabric, method, images.pixels, settings)
    Trainer(folder, record, fabric, method, images, store).run(resume)


def _method_on_each_machine(fabric: Fabric, record: run.RunRecord) -> Method:
    """The first process of a machine goes first: what it downloads, the others find."""
    leads = fabric.local_rank == 0
    found = together(fabric, lambda: [method_of(record)] if leads else [])
    found += together(fabric, lambda: [] if leads else [method_of(record)])
    return found[0]
