"""Running a plan: what is missing, in order, each step recorded; a failed one does not stop the rest."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rich
from rich.console import Console
from rich.table import Table

from build_engines.study.estimate import Estimator, duration
from build_engines.study.inputs import Inputs
from build_engines.study.plan import FP32, INT8, UNIFIED, Step
from build_engines.study.records import EngineResult, Record, Result, StudyFolder, TrainingResult
from build_engines.study.results import Results
from build_engines.study.statistics import mean_auroc
from build_engines.study.work import Work
from engines.errors import UnispectError


class Execution:
    """A plan in a study folder: what of it is done, and doing the rest.

    Attributes:
        plan: all steps, in order.
        records: of steps that ran, by step id; failed ones too.
    """

    def __init__(self, folder: StudyFolder, inputs: Inputs, plan: Sequence[Step], console: Console) -> None:
        self.folder, self.inputs, self.plan, self.console = folder, inputs, plan, console
        self.records: dict[str, Record] = {}
        self._keys = inputs.keys(plan)
        self._estimator = Estimator(inputs)
        for step in plan:
            record = folder.load(step, self._key(step))
            if record is not None:
                self._note(step, record)

    def is_done(self, step: str) -> bool:
        """Whether a step, by id, has a result."""
        return step in self.records and self.records[step].is_done

    def results(self, quick: bool) -> Results:
        """What has been found so far."""
        methods = tuple(dict.fromkeys(step.method for step in self.plan if step.method))
        return Results(methods, self.inputs.classes, quick, self.plan, self.records)

    def table(self) -> Table:
        """The plan: steps of a kind in one row, with what is done and how long the rest may take."""
        table = Table("Method", "What", "Steps", "Done", "Time left, about")
        left = 0.0
        for method, group in dict.fromkeys((step.method, step.group) for step in self.plan):
            steps = [step for step in self.plan if (step.method, step.group) == (method, group)]
            todo = [step for step in steps if not self.is_done(step.id)]
            seconds = sum(self._estimator.seconds(step) for step in todo)
            left += seconds
            told = duration(seconds) if todo else "–"
            table.add_row(method or "all", group, str(len(steps)), str(len(steps) - len(todo)), told)
        table.add_section()
        done = sum(self.is_done(step.id) for step in self.plan)
        table.add_row("", "in all", str(len(self.plan)), str(done), duration(left) if left else "–")
        return table

    def run(self) -> None:
        """Run what is missing. Raises KeyboardInterrupt where the user stops it; the finished steps are kept then."""
        work = Work(self.inputs)
        for number, step in enumerate(self.plan, start=1):
            # What a step of many engines is made from may have changed by now.
            if self.is_done(step.id) and step.id in self._keys:
                continue
            known = self.folder.load(step, self._key(step))
            if known is not None and known.is_done:
                self._note(step, known)
                continue
            self.records.pop(step.id, None)
            place = f"[{number}/{len(self.plan)}] {step.label}"
            if reason := self._why_not(step):
                self._say(f"{place}: left out, for {reason}")
                continue
            self._say(f"{place}: about {duration(self._estimator.seconds(step))}")
            record = self._attempt(step, work)
            self.folder.save(step, record)
            self._note(step, record)
            self._say(f"    {self._outcome(record)}; {duration(self._left(number))} to go")

    def _attempt(self, step: Step, work: Work) -> Record:
        began = time.perf_counter()
        result: Result | None = None
        sentence = trace = None
        try:
            with _quiet(not _is_long(step)):
                result = self._task(step, work)()
        except UnispectError as error:
            sentence = str(error)
        # Whatever goes wrong in one of a hundred engines must not cost the others.
        except Exception as error:
            sentence = f"{type(error).__name__}: {error}".splitlines()[0]
            trace = traceback.format_exc()
        seconds = time.perf_counter() - began
        return Record(
            step=step.id, key=self._key(step), seconds=seconds, sentence=sentence, traceback=trace, result=result
        )

    def _task(self, step: Step, work: Work) -> Callable[[], Result]:
        out = self.folder.path("bundles", step, self._key(step))
        if step.kind == "training":
            return lambda: work.train(step, self.folder.path("runs", step, self._key(step)))
        if step.engine is not None:
            engine, training = step.engine, self._step(str(step.needs))
            source = self.folder.path("runs", training, self._keys[training.id])
            return lambda: work.make_engine(step, engine, source, out)
        engines = self._engines_for(step)
        folders = {one.id: self.folder.path("bundles", one, self._keys[one.id]) for one in engines}
        if step.kind == "latency":
            return lambda: work.time_engines(folders)
        return lambda: work.show_examples({one.engine: folders[one.id] for one in engines if one.engine is not None})

    def _key(self, step: Step) -> str:
        if step.id in self._keys:
            return self._keys[step.id]
        return self.inputs.key_of_engines(step, {one.id: self._keys[one.id] for one in self._engines_for(step)})

    def _engines_for(self, step: Step) -> list[Step]:
        """Finished engines that a step of many takes: all of which the bundle is kept, or two of one method."""
        kept = [one for one in self.plan if one.keeps_bundle and self.is_done(one.id)]
        if step.kind == "latency":
            return kept
        return [one for one in kept if one.method == step.method and one.engine in (FP32, INT8)]

    def _why_not(self, step: Step) -> str | None:
        if step.needs is not None and not self.is_done(step.needs):
            return f"{self._step(step.needs).label} failed"
        found = self._engines_for(step)
        if step.kind == "latency" and not found:
            return "there is no engine to time"
        if step.kind == "examples" and len(found) < 2:
            return f"the {UNIFIED} FP32 or INT8 engine failed"
        return None

    def _step(self, step_id: str) -> Step:
        return next(step for step in self.plan if step.id == step_id)

    def _note(self, step: Step, record: Record) -> None:
        self.records[step.id] = record
        if record.is_done:
            self._estimator.observe(step, record.seconds)

    def _left(self, number: int) -> float:
        todo = (step for step in self.plan[number:] if not self.is_done(step.id))
        return sum(self._estimator.seconds(step) for step in todo)

    def _outcome(self, record: Record) -> str:
        took = duration(record.seconds)
        if isinstance(record.result, TrainingResult):
            return f"best epoch {record.result.best_epoch} of {record.result.epochs}, {took}"
        if isinstance(record.result, EngineResult):
            scores = {name: found.as_scores() for name, found in record.result.classes.items()}
            return f"image AUROC {mean_auroc(scores):.3f}, {record.result.size / 1e6:.1f} MB, {took}"
        return f"failed: {record.sentence}" if record.sentence else f"done, {took}"

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _is_long(step: Step) -> bool:
    """Whether it is worth seeing a step's own progress."""
    return step.kind == "training" or bool(step.engine and step.engine.fine_tuning_epochs)


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Keep progress bars of short pieces of work, which go to rich's own console, off the screen."""
    console = rich.get_console()
    before = console.quiet
    console.quiet = wanted or before
    try:
        yield
    finally:
        console.quiet = before
