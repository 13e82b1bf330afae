"""Records of a study that never ran: scores drawn around known accuracies, to test what is made of them."""

import base64
from collections.abc import Callable

import numpy as np

from build_engines.study.plan import UNIFIED, Engine, Step, make_plan
from build_engines.study.records import (
    ClassResult,
    EngineResult,
    Example,
    ExampleMap,
    ExamplesResult,
    LatencyResult,
    Record,
    Result,
    Timing,
    TrainingResult,
)
from build_engines.study.results import Results
from engines.heatmap import encode_map

CLASSES = ("casting", "pcb", "solar", "tile")
# How many standard deviations defective pictures score above good ones.
Separation = Callable[[str, str, Engine], float]


def made_up_results(
    separation: Separation,
    methods: tuple[str, ...] = ("us", "rd", "stfpm", "dcam"),
    classes: tuple[str, ...] = CLASSES,
    quick: bool = False,
    failing: Callable[[Step], bool] = lambda step: False,
) -> Results:
    """Results of a whole plan.

    Args:
        separation: of method, scope and engine.
        failing: which steps fail.
    """
    plan = make_plan(methods, classes, quick)
    chosen = plan[0].classes
    records = {}
    for step in plan:
        failed = failing(step)
        records[step.id] = Record(
            step=step.id,
            key="0" * 64,
            seconds=10.0,
            sentence="The disk is full; make room." if failed else None,
            result=None if failed else _result(step, plan, separation),
        )
    return Results(methods, chosen, quick, plan, records)


def _result(step: Step, plan: list[Step], separation: Separation) -> Result:
    if step.kind == "training":
        return TrainingResult(
            epochs=30,
            best_epoch=28,
            batch_size=32,
            optimizer="sgd",
            learning_rate=0.4,
            weight_decay=1e-4,
            image_size=256,
            teacher="resnet18 (torchvision)",
            seconds=440.0,
        )
    if step.kind == "latency":
        timed = [one for one in plan if one.keeps_bundle]
        cost = {"us": 4.0, "rd": 2.0}
        return LatencyResult(
            engines={
                one.id: Timing(median=_milliseconds(one.engine) * cost.get(one.method, 1.0), p95=9.0)
                for one in timed
                if one.engine
            },
            eager={one.method: Timing(median=20.0 * cost.get(one.method, 1.0), p95=30.0) for one in timed},
            threads=2,
            repeats=100,
            machine="a machine",
            libraries={"python": "3.11"},
            others=0.02,
        )
    if step.kind == "examples":
        return ExamplesResult(examples=[_example(name) for name in step.classes])
    assert step.engine is not None
    size = {"fp32": 24e6, "fp16": 12.2e6, "bf16": 12.2e6, "int8": 6.2e6}[step.engine.precision]
    return EngineResult(
        classes={name: _class_result(step, step.engine, name, separation) for name in step.classes},
        size=int(size),
        packed_size=int(size * step.engine.weight_bits / 8) if step.engine.simulated else None,
        backend="openvino",
        float_layers=[],
        map_error=0.2 if step.engine.precision == "int8" else 0.001,
    )


def _class_result(step: Step, engine: Engine, name: str, separation: Separation) -> ClassResult:
    """The same noise for every engine, as the same pictures give."""
    number = CLASSES.index(name)
    generator = np.random.default_rng(number)
    defective = np.arange(140) >= 60
    scores = generator.normal(size=140) + separation(step.method, step.scope, engine) * defective
    others = [other for other in step.classes if other != name]
    auroc = float((scores[defective, None] > scores[None, ~defective]).mean())
    figures = {"image_auroc": auroc, "average_precision": 0.8, "f1": 0.8, "false_reject": 0.02, "miss": 0.4}
    return ClassResult(
        metrics={**figures, "pixel_auroc": 0.9, "pro": 0.7 if number % 2 else None, "recognition": 1.0},
        pictures=[f"{name}/test/x/{index:03}.png" for index in range(140)],
        defective=defective.tolist(),
        scores=scores.tolist(),
        nearest=others[0] if others else None,
        reach=0.2 + 0.1 * number if step.scope == UNIFIED and others else None,
        cosine=0.9 if others else None,
    )


def _example(name: str) -> Example:
    rows, columns = np.mgrid[:32, :32]
    spot = np.exp(-((rows - 12) ** 2 + (columns - 20) ** 2) / 20).astype(np.float32)
    png, scale = encode_map(spot)
    shown = ExampleMap(png=base64.b64encode(png).decode(), scale=scale, score=1.0, threshold=0.5)
    return Example(picture=f"{name}/test/x/000.png", part_class=name, defect="x", fp32=shown, int8=shown)


def _milliseconds(engine: Engine) -> float:
    return {"fp32": 12.0, "fp16": 12.0, "bf16": 6.5, "int8": 4.6}[engine.precision] + (1.0 if engine.keep_fp16 else 0.0)
