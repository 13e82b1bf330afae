"""The papers' tables with these parts' figures, the papers' own beside them."""

from build_engines.quantization import defaults
from build_engines.study import paper
from build_engines.study.document import NOTHING, Cell, Column, Table, change, megabytes, number, of_paper, signed
from build_engines.study.paper import Measured
from build_engines.study.plan import FP32, INT8, RANDOM_NORMAL, Engine
from build_engines.study.records import Timing
from build_engines.study.results import Results
from build_engines.study.statistics import mean_auroc

_BLANK, _PAPER_BLANK = Cell(""), Cell("", paper=True)


def paper_tables(results: Results) -> list[Table]:
    """P1 tables 1 to 6, and P2's line where DCAM is in the study."""
    tables = [
        hyper_parameters(results),
        unified_or_one_class(results),
        float_engines(results),
        two_calibrations(results),
        precisions(results),
        ptq_and_qat(results),
    ]
    return [*tables, dcam(results)] if "dcam" in results.methods else tables


def hyper_parameters(results: Results) -> Table:
    """P1 table 1."""
    names = ("batch_size", "epochs", "optimizer", "learning_rate", "weight_decay", "image_size")
    rows = []
    for method in results.methods:
        here, there = results.training(method), paper.TABLE_1.get(method)
        pairs = ((getattr(here, name, None), getattr(there, name, None)) for name in names)
        rows.append(
            [
                _method(method),
                *(cell for own, theirs in pairs for cell in (Cell(_text(own)), of_paper(_text(theirs)))),
                Cell(_text(getattr(here, "best_epoch", None))),
                number(here.seconds / 60 if here else None, 1),
            ]
        )
    groups = ("batch", "epochs", "optimiser", "learning rate", "weight decay", "image, pixels")
    columns = [Column("method"), *_beside(*groups), Column("best epoch", "here"), Column("minutes", "here")]
    return Table("Hyper-parameters of the unified runs (P1 table 1)", columns, rows)


def unified_or_one_class(results: Results) -> Table:
    """P1 table 2."""
    rows = []
    for method in results.methods:
        alone, unified = results.one_class_scores(method, FP32), results.scores(method, FP32)
        their_alone, their_unified = paper.TABLE_2.get(method, (None, None))
        rows.append(
            [
                _method(method),
                number(mean_auroc(alone) if alone else None),
                of_paper(their_alone),
                number(mean_auroc(unified) if unified else None),
                of_paper(their_unified),
                change(results.difference((unified, alone))),
                _their_change(their_unified, their_alone),
            ]
        )
    columns = [Column("method"), *_beside("one-class AUROC", "unified AUROC", "unified − one-class")]
    note = (
        f"One-class: a model for each of the {len(results.classes)} classes, means over classes; unified: one model "
        "for all. The paper has 15 classes."
    )
    return Table("One-class against unified, FP32 (P1 table 2)", columns, rows, notes=[note])


def float_engines(results: Results) -> Table:
    """P1 table 3."""
    rows = []
    for method in results.methods:
        here, there = results.engine(method, FP32), paper.TABLE_3.get(method)
        rows.append(
            [
                _method(method),
                *_sizes(getattr(here, "size", None), there),
                _milliseconds(results.eager(method)),
                _milliseconds(results.timing(method, FP32)),
                of_paper(getattr(there, "milliseconds", None), 0),
                of_paper(paper.JETSON_MILLISECONDS.get(method), 1),
                *_aurocs(results.mean(here, "image_auroc"), there),
            ]
        )
    here_time, paper_time = "ms a picture, here", "ms a picture, paper"
    times = [Column("PyTorch", here_time), Column("engine", here_time), Column("CPU", paper_time)]
    columns = [Column("method"), *_beside("size, MB"), *times, Column("Jetson", paper_time), *_beside("AUROC")]
    return Table("FP32: size, time, accuracy (P1 table 3)", columns, rows)


def two_calibrations(results: Results) -> Table:
    """P1 table 4."""
    rows = []
    for method in results.methods:
        here, noise = results.engine(method, INT8), results.engine(method, RANDOM_NORMAL)
        by_images, by_noise = paper.TABLE_4.get(method, (None, None))
        float_auroc = getattr(paper.TABLE_3.get(method), "auroc", None)
        rows.append(
            [
                _method(method),
                *_times(results.timing(method, INT8), by_images, 0),
                *_aurocs(results.mean(here, "image_auroc"), by_images),
                change(results.against(method, INT8)),
                _their_change(getattr(by_images, "auroc", None), float_auroc),
                *_aurocs(results.mean(noise, "image_auroc"), by_noise),
                change(results.against(method, RANDOM_NORMAL)),
                _their_change(getattr(by_noise, "auroc", None), float_auroc),
                *_sizes(getattr(here, "size", None), by_images),
            ]
        )
    groups = ("ms, CPU", "AUROC, training images", "− FP32", "AUROC, random normal", "− FP32 ", "size, MB")
    note = f"Here {defaults.CALIBRATOR}, teacher and student in INT8; the paper: PyTorch's L2 search."
    columns = [Column("method"), *_beside(*groups)]
    return Table("INT8 PTQ with two calibration sets (P1 table 4)", columns, rows, notes=[note])


def precisions(results: Results) -> Table:
    """P1 table 5."""
    engines = [FP32, Engine(precision="fp16"), Engine(precision="bf16"), INT8]
    rows = []
    for method in results.methods:
        there = dict(zip(("torch", "fp16", "int8"), paper.TABLE_5.get(method, ()), strict=False))
        eager, base = results.eager(method), there.get("torch")
        rows.append(
            [
                *(_method(method), Cell("FP32, PyTorch")),
                *_times(eager, base, 1),
                *(number(1.0 if eager else None, 2), of_paper(1.0 if base else None)),
                *_aurocs(results.mean(results.engine(method, FP32), "image_auroc"), base),
                *(_BLANK, _PAPER_BLANK),
                *_sizes(getattr(results.engine(method, FP32), "size", None), base),
            ]
        )
        for engine in engines:
            found, theirs = results.engine(method, engine), there.get(engine.precision)
            if found is None:
                continue
            rows.append(
                [
                    *(_method(method), Cell(f"{engine.precision.upper()}, engine")),
                    *_times(results.timing(method, engine), theirs, 1),
                    number(results.ratio(method, engine), 2),
                    of_paper(theirs.milliseconds / base.milliseconds if theirs and base else None),
                    *_aurocs(results.mean(found, "image_auroc"), theirs),
                    _BLANK if engine == FP32 else change(results.against(method, engine)),
                    _their_change(getattr(theirs, "auroc", None), getattr(base, "auroc", None)),
                    *_sizes(found.size, theirs),
                ]
            )
    groups = ("ms a picture", "of PyTorch's time", "AUROC", "AUROC − FP32", "size, MB")
    notes = ["Here on a CPU, median at batch 1; the paper: TensorRT on the Jetson, the teacher left in FP32."]
    columns = [Column("method"), Column("precision"), *_beside(*groups)]
    return Table("Precisions (P1 table 5)", columns, rows, headings=2, notes=notes)


def ptq_and_qat(results: Results) -> Table:
    """P1 table 6, with the control that it lacks."""
    rows = []
    for method in results.methods:
        their_ptq, their_qat = paper.TABLE_6.get(method, (None, None))
        control, qat = results.find(method, "ptq"), results.find(method, "qat")
        ways = [
            ("PTQ, random normal", RANDOM_NORMAL, their_ptq),
            ("PTQ, training images", INT8, None),
            ("PTQ of the control", control, None),
            ("QAT", qat, their_qat),
        ]
        for label, engine, theirs in ways:
            found = results.engine(method, engine) if engine else None
            gain = results.against(method, qat, control) if qat and control and engine is qat else None
            rows.append(
                [
                    *(_method(method), Cell(label)),
                    *_times(results.timing(method, engine) if engine and found else None, theirs, 0),
                    *_aurocs(results.mean(found, "image_auroc"), theirs),
                    change(results.against(method, engine) if engine else None),
                    change(gain) if engine is qat else _BLANK,
                    *_sizes(getattr(found, "size", None), theirs),
                ]
            )
    columns = [Column("method"), Column("way"), *_beside("ms a picture, CPU", "AUROC")]
    columns += [Column("− FP32", "AUROC, here"), Column("− control", "AUROC, here"), *_beside("size, MB")]
    note = (
        "The control: the float model trained on for as many epochs as QAT fine-tunes, then PTQ with training images. "
        "What QAT brings is its difference to the control; the rest is only more training."
    )
    return Table("PTQ against QAT, INT8 (P1 table 6)", columns, rows, headings=2, notes=[note])


def dcam(results: Results) -> Table:
    """P2's line."""
    rows = []
    for engine in (FP32, INT8):
        found, is_float = results.engine("dcam", engine), engine == FP32
        mine, other = results.timing("dcam", engine), results.timing("stfpm", engine)
        gain = results.difference((results.scores("dcam", engine), results.scores("stfpm", engine)))
        rows.append(
            [
                Cell(f"DCAM, unified, {engine.precision.upper()}"),
                number(results.mean(found, "image_auroc")),
                of_paper(paper.DCAM_AUROC if is_float else None, 3),
                number(results.mean(found, "pro")),
                of_paper(paper.DCAM_PRO if is_float else None, 3),
                change(gain),
                of_paper(signed(paper.DCAM_GAIN) if is_float else None),
                number(mine.median / other.median if mine and other else None, 2),
                of_paper(1.0 if is_float else None),
            ]
        )
    groups = ("image AUROC", "PRO", "AUROC − STFPM", "time over STFPM's")
    return Table("DCAM against STFPM (P2)", [Column("model"), *_beside(*groups)], rows)


def _beside(*groups: str) -> list[Column]:
    """Two columns for each name: here, and the paper's."""
    return [Column(label, group) for group in groups for label in ("here", "paper")]


def _method(method: str) -> Cell:
    return Cell(method.upper())


def _aurocs(here: float | None, there: Measured | None) -> tuple[Cell, Cell]:
    return number(here), of_paper(getattr(there, "auroc", None))


def _times(here: Timing | None, there: Measured | None, digits: int) -> tuple[Cell, Cell]:
    return _milliseconds(here), of_paper(getattr(there, "milliseconds", None), digits)


def _sizes(here: float | None, there: Measured | None) -> tuple[Cell, Cell]:
    return megabytes(here), of_paper(getattr(there, "megabytes", None), 1)


def _milliseconds(timing: Timing | None) -> Cell:
    return number(timing.median if timing else None, 2)


def _their_change(first: float | None, second: float | None) -> Cell:
    return of_paper(None if first is None or second is None else signed(first - second, 2))


def _text(value: float | str | None) -> str:
    return NOTHING if value is None else str(value)
