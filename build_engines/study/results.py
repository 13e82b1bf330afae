"""What a study found, as its tables, plots and answers ask for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from build_engines.study.plan import FP32, INT8, UNIFIED, Engine, Step, engine_id, training_id
from build_engines.study.records import EngineResult, LatencyResult, Record, Timing, TrainingResult
from build_engines.study.statistics import Bootstrap, ClassScores, Interval, Scores


@dataclass(frozen=True)
class Results:
    """Records of a plan.

    Attributes:
        methods, classes: in the plan's order.
        quick: few epochs, so that the figures are no evidence.
        records: by step id.
    """

    methods: tuple[str, ...]
    classes: tuple[str, ...]
    quick: bool
    plan: Sequence[Step]
    records: Mapping[str, Record]

    def engine(self, method: str, engine: Engine, scope: str = UNIFIED) -> EngineResult | None:
        """A measured engine; None where it failed or was not planned."""
        record = self.records.get(engine_id(method, scope, engine))
        return record.result if record and isinstance(record.result, EngineResult) else None

    def training(self, method: str, scope: str = UNIFIED) -> TrainingResult | None:
        """A finished training."""
        record = self.records.get(training_id(method, scope))
        return record.result if record and isinstance(record.result, TrainingResult) else None

    def scores(self, method: str, engine: Engine) -> Scores | None:
        """Image scores of the unified engine."""
        found = self.engine(method, engine)
        return {name: one.as_scores() for name, one in found.classes.items()} if found else None

    def one_class_scores(self, method: str, engine: Engine) -> Scores | None:
        """Image scores of each class's own engine; None where any is missing."""
        found: dict[str, ClassScores] = {}
        for name in self.classes:
            alone = self.engine(method, engine, name)
            if alone is None:
                return None
            found[name] = alone.classes[name].as_scores()
        return found

    def of_method(self, method: str, group: str | None = None) -> list[tuple[Engine, EngineResult]]:
        """All measured unified engines of a method, in the plan's order; of one group, or of all."""
        steps = [step for step in self.plan if step.method == method and step.scope == UNIFIED]
        pairs = [
            (step.engine, self.engine(method, step.engine))
            for step in steps
            if step.engine is not None and group in (None, step.group)
        ]
        return [(engine, found) for engine, found in pairs if found is not None]

    def find(self, method: str, mode: str = "qat") -> Engine | None:
        """The planned INT8 engine of a method that was fine-tuned: by QAT, or in mode `ptq` its control."""
        planned = (step.engine for step in self.plan if step.method == method and step.engine is not None)
        tuned = (one for one in planned if one.fine_tuning_epochs and one.precision == "int8")
        return next((one for one in tuned if one.mode == mode), None)

    @cached_property
    def measured(self) -> tuple[str, ...]:
        """Methods with a unified FP32 engine, which everything is compared with."""
        return tuple(method for method in self.methods if self.engine(method, FP32))

    @cached_property
    def latency(self) -> LatencyResult | None:
        """Engines side by side."""
        record = self.records.get("latency")
        return record.result if record and isinstance(record.result, LatencyResult) else None

    def timing(self, method: str, engine: Engine) -> Timing | None:
        """Of a unified engine; of one that differs from another in scales alone, that one's."""
        if self.latency is None or engine.simulated:
            return None
        engines = self.latency.engines
        own = engines.get(engine_id(method, UNIFIED, engine))
        same_graph = engine.precision == "int8" and engine.keep_fp16 is None
        return own or (engines.get(engine_id(method, UNIFIED, INT8)) if same_graph else None)

    def eager(self, method: str) -> Timing | None:
        """PyTorch FP32 eager in the same run."""
        return self.latency.eager.get(method) if self.latency else None

    def ratio(self, method: str, engine: Engine) -> float | None:
        """An engine's median time over that of PyTorch FP32 eager."""
        own, eager = self.timing(method, engine), self.eager(method)
        return own.median / eager.median if own and eager else None

    def mean(self, found: EngineResult | None, metric: str) -> float | None:
        """Mean of a metric over the classes that have it."""
        values = [one.metrics[metric] for one in found.classes.values()] if found else []
        present = [value for value in values if value is not None]
        return float(np.mean(present)) if present else None

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Resamples of the test pictures, the same for every comparison."""
        scores = next(found for method in self.measured if (found := self.scores(method, FP32)))
        return Bootstrap({name: one.defective for name, one in scores.items()})

    def difference(self, *pairs: tuple[Scores | None, Scores | None]) -> Interval | None:
        """Mean over pairs of the first's mean image AUROC less the second's; None where any is missing."""
        whole = [(first, second) for first, second in pairs if first and second]
        return self.bootstrap.difference(*whole) if whole and len(whole) == len(pairs) else None

    def against(self, method: str, engine: Engine, reference: Engine = FP32) -> Interval | None:
        """What an engine gains over another one of the same run."""
        return self.difference((self.scores(method, engine), self.scores(method, reference)))

    @cached_property
    def failures(self) -> list[tuple[str, str]]:
        """Label and sentence of steps that failed, and of those left out for them."""
        told = []
        for step in self.plan:
            record = self.records.get(step.id)
            if record is None:
                told.append((step.label, "left out: what it needs failed"))
            elif record.sentence is not None:
                told.append((step.label, record.sentence))
        return told
