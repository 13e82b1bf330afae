"""The chunks of an archive through engines on Ray Data, each kept once it is done."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray.data
from ray.actor import ActorHandle
from ray.exceptions import RayError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from build_engines.errors import ReinspectionError
from build_engines.reinspection.cluster import Workers, connected
from build_engines.reinspection.parts import Parts
from build_engines.reinspection.scorer import EngineSource
from build_engines.reinspection.witness import Attempt, Witness
from build_engines.reinspection.worker import ChunkScorer, chunk_row

# Large enough that Ray costs little beside it, small enough that little is lost, and nobody waits long for the last.
CHUNK = 128
_RATE_SECONDS = 120.0


def score_parts(
    parts: Parts,
    folder: Path,
    engines: Sequence[EngineSource],
    backend: str,
    *,
    address: str | None,
    workers: int | None,
    console: Console,
) -> None:
    """Score the images that are in no part yet. Shows progress; stopped at any moment, only chunks at work are lost.

    Args:
        folder: what the images' names are relative to.
        engines: one, or two to compare.
        backend: the inference library; not `auto`, which each node would take for itself.
        address: see `connected`.
        workers: see `Workers.share`.

    Raises:
        ReinspectionError: no cluster, too small a one, or its workers die without end.
        UnispectError: what a worker said that could open no engine, or that an engine failed.
    """
    done = parts.done()
    todo = [part for part in range(parts.record.parts) if part not in done]
    if not todo:
        return
    with connected(address), _progress(console) as progress:
        share = Workers.share(workers, backend.startswith("tensorrt"))
        completed = sum(len(parts.images_of(part)) for part in done)
        task = progress.add_task("Starting workers", total=parts.record.images, completed=completed, errors=0)
        errors = 0
        for answer in _answers(parts, todo, (folder, engines, backend, share.cpus), share):
            if answer["failure"]:
                raise ReinspectionError(answer["failure"])
            parts.add(answer["chunk"], answer["part"])
            errors += answer["errors"]
            progress.update(task, description="Scoring", advance=answer["images"], errors=errors)


def _answers(
    parts: Parts, todo: Sequence[int], arguments: tuple[object, ...], share: Workers
) -> Iterator[dict[str, Any]]:
    """What the workers found, chunk by chunk as they come; see `ChunkScorer.__call__`."""
    _silence()
    witness = _RayWitness(ray.remote(num_cpus=0)(Witness).remote())
    chunks = [chunk_row(part, parts.images_of(part)) for part in todo]
    answers = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map(
        ChunkScorer,
        fn_constructor_args=(*arguments, witness),
        compute=ray.data.ActorPoolStrategy(size=min(share.count, len(chunks))),
        num_cpus=share.cpus,
        num_gpus=share.gpus,
    )
    try:
        yield from answers.iter_rows()
    except RayError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise ReinspectionError(
            f"Ray's workers stopped ({reason}); call the same command again to go on, with fewer --workers where "
            "memory was short."
        ) from error


def _silence() -> None:
    """There is one progress bar, and one sentence where something fails."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


class _RayWitness:
    """The witness as the workers reach it, which wait until it has heard them."""

    def __init__(self, actor: ActorHandle) -> None:
        self._actor = actor

    def begin(self, chunk: int) -> Attempt:
        return ray.get(self._actor.begin.remote(chunk))

    def reached(self, chunk: int, index: int) -> None:
        ray.get(self._actor.reached.remote(chunk, index))


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.0f} images/s", style="progress.data.speed")


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[errors]} errors"),
        console=console,
        speed_estimate_period=_RATE_SECONDS,
    )
