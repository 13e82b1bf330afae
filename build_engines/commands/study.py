"""`build-engines study`."""

from pathlib import Path

from rich.console import Console

from build_engines.commands.options import ArgumentError, choose
from build_engines.errors import StudyError
from build_engines.methods import METHODS
from build_engines.networks.resnet import ARCHITECTURES
from build_engines.study.execute import Execution
from build_engines.study.inputs import Inputs
from build_engines.study.plan import FULL, QUICK, QUICK_CLASSES, make_plan
from build_engines.study.records import StudyFolder
from build_engines.study.report import CSV, HTML, JSON, MARKDOWN, write_report


def study_parts(
    data: Path,
    out: Path,
    *,
    methods: list[str],
    console: Console,
    quick: bool = False,
    teacher: str | None = None,
    teacher_weights: str | None = None,
    plan_only: bool = False,
    with_images: bool = False,
) -> None:
    """Plan all runs, do what is missing, and write the pages.

    Raises:
        ArgumentError: an unknown method or teacher.
        DataError: a class without training or test images.
        StudyError: `out` is no study's folder, or no engine could be measured.
    """
    if not methods:
        raise ArgumentError(f"--methods is empty; name some of {', '.join(METHODS)}.")
    for method in methods:
        choose("methods", method, METHODS)
    if teacher is not None:
        choose("teacher", teacher, ARCHITECTURES)
    folder = StudyFolder.open(out)
    inputs = Inputs.read(data, teacher, teacher_weights, QUICK if quick else FULL, QUICK_CLASSES if quick else None)
    plan = make_plan(list(dict.fromkeys(methods)), inputs.classes, quick)
    execution = Execution(folder, inputs, plan, console)
    console.print(execution.table())
    if plan_only:
        return
    folder.begin()
    execution.run()
    results = execution.results(quick)
    if not results.measured:
        first = next((f"{label}: {reason}" for label, reason in results.failures), "nothing ran")
        raise StudyError(f"No FP32 engine could be measured, so there is nothing to compare ({first}).")
    write_report(out, results, inputs, with_images)
    if results.failures:
        console.print(
            f"{len(results.failures)} of {len(plan)} steps failed or were left out; call the same command again to try "
            "them anew.",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"Page: {out / HTML}, {MARKDOWN}, {CSV} and {JSON}", highlight=False, soft_wrap=True)
