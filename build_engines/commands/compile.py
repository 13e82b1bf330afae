"""`build-engines compile`, and opening a bundle on a GPU that nobody has compiled it for yet."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from engines import bundle as bundles
from engines.backends import choose
from engines.compile_process import CompileProcess, Result
from engines.compile_process import Progress as Compiling
from engines.detector import Detector
from engines.errors import NoPlan


def compile_bundle(folder: Path, arguments: list[str], console: Console) -> Result:
    """Compile a bundle in a process of its own, show how far it is, and print what came of it.

    Args:
        arguments: of `python -m engines.compile`.

    Raises CompileError where that fails.
    """
    process = CompileProcess(folder, arguments, lambda line: console.print(line, highlight=False, markup=False))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=None)

        def show(now: Compiling) -> None:
            progress.update(task, description=now.stage, total=None if now.fraction is None else 1.0)
            progress.update(task, completed=now.fraction or 0.0)

        result = process.follow(show)
    console.print(_summary(result), highlight=False)
    return result


def open_detector(folder: Path, backend: str, threads: int, console: Console) -> Detector:
    """Open a bundle; on TensorRT compile it first where there is no plan for this GPU.

    Raises as `Detector.open` and `compile_bundle`.
    """
    bundle = bundles.load(folder)
    try:
        return Detector.open(bundle, backend, threads)
    except NoPlan:
        chosen = choose() if backend == "auto" else backend
        compile_bundle(folder, ["--backend", chosen], console)
        return Detector.open(bundle, backend, threads)


def _summary(result: Result) -> str:
    record, key = result.record, result.record.key
    made = "was there already" if result.reused else f"compiled in {record.seconds:.1f} s"
    text = (
        f"{result.plan}: {made}; {key.precision}, batches of up to {key.profile.largest}, {record.size / 1e6:.1f} MB, "
        f"{key.library} {key.version}, compute capability {key.compute_capability}"
    )
    if record.agreement is None:
        return f"{text}. The plan has not been run: there is no such GPU here."
    return f"{text}. Golden image on {record.agreement.device}: {record.agreement}."
