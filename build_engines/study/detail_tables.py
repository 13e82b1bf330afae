"""Tables beyond the papers': per class, calibration, narrow integers, likeness of classes, all engines."""

from build_engines.quantization import defaults
from build_engines.study.document import Cell, Column, Table, change, megabytes, number, shade, told
from build_engines.study.plan import CALIBRATIONS, CALIBRATORS, FP32, INT8, UNIFIED, Engine
from build_engines.study.results import Results
from build_engines.study.statistics import Interval

UNDER_8_BITS = "under 8 bits (simulated)"
CALIBRATION = "calibration"
_METRICS = {"image_auroc": "AUROC", "pro": "PRO"}


def per_class(results: Results) -> Table:
    """AUROC and PRO of each class: one-class and unified, FP32 and INT8, QAT."""
    rows = []
    for method in results.measured:
        ways: list[tuple[str, Engine | None, bool]] = [
            ("one-class, FP32", FP32, True),
            ("one-class, INT8 PTQ", INT8, True),
            ("unified, FP32", FP32, False),
            ("unified, INT8 PTQ", INT8, False),
            ("unified, INT8 QAT", results.find(method, "qat"), False),
        ]
        for label, engine, alone in ways:
            found = [_metrics(results, method, engine, name, alone) for name in results.classes]
            if any(found):
                figures = [[metrics.get(metric) for metrics in found] for metric in _METRICS]
                means = [_mean(values) if all(found) else None for values in figures]
                by_class = [value for values in zip(*figures, strict=True) for value in values]
                rows.append([Cell(method.upper()), Cell(label), *map(number, [*by_class, *means])])
    groups = [*results.classes, "mean"]
    columns = [
        Column("method"),
        Column("engine"),
        *(Column(label, name) for name in groups for label in _METRICS.values()),
    ]
    note = f"PRO needs masks; classes without them have none. INT8 PTQ: training images, {defaults.CALIBRATOR}."
    return Table("AUROC and PRO per class", columns, rows, 2, [note])


def calibrations(results: Results, method: str) -> Table:
    """Calibration data against calibrator: AUROC, and its difference to the default ones."""
    measured = {(engine.calibration, engine.calibrator) for engine, _ in results.of_method(method, CALIBRATION)}
    by = [name for name in CALIBRATORS if any(name == calibrator for _, calibrator in measured)]
    rows = []
    for data in CALIBRATIONS:
        cells = [
            _calibrated(results, method, Engine(precision="int8", calibration=data, calibrator=name)) for name in by
        ]
        if any(cell.text for cell in cells):
            rows.append([Cell(data), *cells])
    caption = (
        f"{method.upper()}: mean image AUROC by calibration data and calibrator, "
        f"with the difference to train, {defaults.CALIBRATOR}"
    )
    return Table(caption, [Column("calibration data"), *(Column(name) for name in by)], rows)


def under_8_bits(results: Results) -> Table:
    """Size and accuracy of narrow integers."""
    rows = []
    for method in results.measured:
        base = results.engine(method, FP32)
        engines = [(FP32, base), (INT8, results.engine(method, INT8)), *results.of_method(method, UNDER_8_BITS)]
        for engine, found in engines:
            if found is None or base is None:
                continue
            size = found.packed_size or found.size
            is_float = engine == FP32
            bits = (32, 32) if is_float else (engine.weight_bits, engine.activation_bits)
            rows.append(
                [
                    Cell(method.upper()),
                    *(Cell(f"{number_of}{' (simulated)' if number_of < 8 else ''}") for number_of in bits),
                    number(results.mean(found, "image_auroc")),
                    Cell("") if is_float else change(results.against(method, engine)),
                    Cell("") if is_float or engine == INT8 else change(results.against(method, engine, INT8)),
                    megabytes(size),
                    number(base.size / size, 2),
                ]
            )
    columns = [Column("method"), Column("weights", "bits"), Column("activations", "bits"), Column("AUROC")]
    columns += [
        Column("− FP32", "AUROC"),
        Column("− INT8", "AUROC"),
        Column("MB", "size"),
        Column("FP32's over it", "size"),
    ]
    note = "Simulated: values rounded as if so narrow, computed in INT8; sizes as if the weights were packed."
    return Table("Precision under 8 bits, PTQ", columns, rows, 3, [note])


def likeness(results: Results) -> Table:
    """How alike classes are, and what one model for all costs each."""
    rows = []
    for method in results.measured:
        found = results.engine(method, FP32)
        for name in results.classes:
            one = found.classes[name] if found else None
            alone = results.engine(method, FP32, name)
            if one is None or one.reach is None:
                continue
            rows.append(
                [
                    Cell(method.upper()),
                    Cell(name),
                    Cell(one.nearest or ""),
                    number(one.reach, 2),
                    number(one.cosine),
                    number(one.metrics["recognition"]),
                    number(alone.classes[name].metrics["image_auroc"] if alone else None),
                    number(one.metrics["image_auroc"]),
                    change(class_gain(results, method, name)),
                ]
            )
    columns = [
        *(Column("method"), Column("class"), Column("nearest class"), Column("reach"), Column("cosine")),
        *(Column("recognised"), Column("one-class AUROC"), Column("unified AUROC"), Column("unified − one-class")),
    ]
    notes = [
        "Reach: the largest distance of a held-out good part from its class's centroid, over the distance of the "
        "nearest other class's centroid, in the space of the embeddings that recognise classes; above 1 classes "
        "overlap. Cosine: of the two centroids. Recognised: share of test pictures whose class the engine finds by "
        "itself."
    ]
    return Table("Classes that look alike, FP32", columns, rows, 2, notes)


def all_engines(results: Results) -> Table:
    """Every unified engine."""
    rows = []
    for method in results.measured:
        for engine, found in results.of_method(method):
            timing = results.timing(method, engine)
            rows.append(
                [
                    Cell(method.upper()),
                    Cell(engine.label),
                    number(results.mean(found, "image_auroc")),
                    Cell("") if engine == FP32 else change(results.against(method, engine)),
                    number(results.mean(found, "pro")),
                    number(found.map_error),
                    megabytes(found.packed_size or found.size),
                    number(timing.median if timing else None, 2),
                    number(results.ratio(method, engine), 2),
                ]
            )
    labels = ("method", "engine", "AUROC", "− FP32", "PRO", "map error", "MB", "ms", "of PyTorch's time")
    notes = [
        "Map error: mean absolute difference to the FP32 map over the mean FP32 map, held-out good images. Engines "
        "that differ in scales alone share one time; simulated ones have none."
    ]
    return Table("All unified engines", [Column(label) for label in labels], rows, 2, notes)


def class_gain(results: Results, method: str, name: str) -> Interval | None:
    """Unified less one-class AUROC of one class, FP32."""
    unified, alone = results.engine(method, FP32), results.engine(method, FP32, name)
    if unified is None or alone is None:
        return None
    return results.difference(({name: unified.classes[name].as_scores()}, {name: alone.classes[name].as_scores()}))


def _metrics(results: Results, method: str, engine: Engine | None, name: str, alone: bool) -> dict[str, float | None]:
    found = results.engine(method, engine, name if alone else UNIFIED) if engine else None
    return found.classes[name].metrics if found else {}


def _mean(values: list[float | None]) -> float | None:
    """Over the classes that have the figure."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _calibrated(results: Results, method: str, engine: Engine) -> Cell:
    found = results.engine(method, engine)
    auroc = results.mean(found, "image_auroc")
    if auroc is None:
        return Cell("")
    if engine == INT8:
        return Cell(f"{auroc:.3f}", strong=True)
    gain = results.against(method, engine, INT8)
    return Cell(f"{auroc:.3f} ({told(gain)})", shade(gain)) if gain else number(auroc)
