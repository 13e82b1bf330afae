"""What is said of results whose truth is known: tables, answers, advice, and a page whatever fails."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from build_engines.study.answers import alike_classes, calibration_strategy, narrow_integers
from build_engines.study.choose import what_to_choose
from build_engines.study.detail_tables import per_class, under_8_bits
from build_engines.study.document import Cell, Column, Plot, Section, Table, change, signed
from build_engines.study.inputs import Inputs
from build_engines.study.page import write_html, write_markdown
from build_engines.study.paper_tables import paper_tables
from build_engines.study.plan import FP32, FULL, INT8, UNIFIED, Engine
from build_engines.study.report import write_report
from build_engines.study.results import Results
from build_engines.study.statistics import Interval
from build_engines.study.words import listed, times
from tests.build_engines.made_up_study import CLASSES, made_up_results

METHODS = {"us": 1.0, "rd": 1.5, "stfpm": 1.3, "dcam": 1.5}


def even(method: str, scope: str, engine: Engine) -> float:
    """INT8 costs nothing, whatever its calibration; one-class and unified are alike."""
    return METHODS[method]


@pytest.fixture(scope="module")
def results() -> Results:
    """RD and DCAM alike; INT8 costs a little, noise and narrow integers much; unified is better than one-class."""

    def separation(method: str, scope: str, engine: Engine) -> float:
        value = METHODS[method] - 0.2 * (scope != UNIFIED)
        if engine.precision == "int8":
            value -= 0.01 + 0.3 * (engine.calibration == "random-normal")
            value -= 0.05 * (8 - engine.weight_bits) + 0.1 * (8 - engine.activation_bits)
        return value

    return made_up_results(separation)


def inputs(folder: Path) -> Inputs:
    counts = dict.fromkeys(CLASSES, 140)
    return Inputs(folder, CLASSES, "resnet18", None, FULL, counts, counts, {"teacher": "0"})


def row_of(table: Table, *headings: str) -> dict[str, str]:
    row = next(row for row in table.rows if tuple(cell.text for cell in row[: len(headings)]) == headings)
    names = [f"{column.group} {column.label}".strip() for column in table.columns]
    return dict(zip(names, (cell.text for cell in row), strict=True))


def text_of(section: Section) -> str:
    return " ".join(section.paragraphs)


def test_the_papers_figures_stand_beside_ours(results: Results) -> None:
    tables = {table.caption: table for table in paper_tables(results)}
    assert len(tables) == 7
    first = row_of(tables["Hyper-parameters of the unified runs (P1 table 1)"], "RD")
    assert (first["batch paper"], first["optimiser paper"], first["learning rate paper"]) == ("16", "adam", "0.005")
    assert (first["batch here"], first["learning rate here"], first["here best epoch"]) == ("32", "0.4", "28")
    second = row_of(tables["One-class against unified, FP32 (P1 table 2)"], "RD")
    assert (second["one-class AUROC paper"], second["unified AUROC paper"]) == ("0.98", "0.95")
    assert float(second["unified AUROC here"]) == pytest.approx(
        results.mean(results.engine("rd", FP32), "image_auroc"), abs=6e-4
    )
    assert second["unified − one-class here"].startswith("+")
    assert second["unified − one-class paper"] == "−0.03"
    fifth = row_of(tables["Precisions (P1 table 5)"], "STFPM", "INT8, engine")
    assert fifth["of PyTorch's time here"] == "0.23"
    assert (fifth["AUROC paper"], fifth["AUROC − FP32 paper"], fifth["size, MB paper"]) == ("0.92", "−0.02", "48.5")
    sixth = row_of(tables["PTQ against QAT, INT8 (P1 table 6)"], "US", "QAT")
    assert sixth["AUROC paper"] == "0.60"
    assert sixth["AUROC, here − control"] == "0.000 [0.000, 0.000]"


def test_dcam_has_its_line_only_where_it_is_in_the_study() -> None:
    assert len(paper_tables(made_up_results(even, methods=("rd",), quick=True))) == 6


def test_classes_have_auroc_and_pro(results: Results) -> None:
    table = per_class(results)
    row = row_of(table, "RD", "unified, FP32")
    found = results.engine("rd", FP32)
    assert found is not None
    assert float(row["pcb AUROC"]) == pytest.approx(found.classes["pcb"].metrics["image_auroc"], abs=6e-4)
    assert (row["pcb PRO"], row["casting PRO"], row["mean PRO"]) == ("0.700", "–", "0.700")
    assert float(row["mean AUROC"]) == pytest.approx(results.mean(found, "image_auroc"), abs=6e-4)


def test_narrow_integers_are_called_simulated_and_are_smaller(results: Results) -> None:
    row = row_of(under_8_bits(results), "RD", "4 (simulated)", "8")
    assert float(row["size FP32's over it"]) == pytest.approx(24 / 3.1, abs=0.01)
    assert row["AUROC − FP32"].startswith("−")
    said = text_of(narrow_integers(results))
    assert "simulated" in said
    assert "None stays within 0.005" in said


def test_narrow_integers_that_cost_nothing_are_named() -> None:
    assert "Within 0.005 of INT8 on average stay: weights of 6 bits" in text_of(narrow_integers(made_up_results(even)))


def test_advice_names_the_best_and_the_fastest(results: Results) -> None:
    method, precision, calibration = what_to_choose(results).paragraphs
    assert "RD has the highest mean" in method
    assert re.search(r"It leads STFPM by \+0\.\d+ \[.*\] and US by", method)
    assert "no difference to DCAM" in method
    assert "Take DCAM: it is faster than RD and not shown to be worse" in method
    assert "Take INT8 by PTQ for US, RD, STFPM and DCAM." in precision
    assert "3.9 times smaller" in precision
    assert "Take training images with mse" in calibration


def test_advice_follows_the_figures() -> None:
    def separation(method: str, scope: str, engine: Engine) -> float:
        plain = engine.precision == "int8" and engine.keep_fp16 is None
        return METHODS[method] - 0.4 * (plain and method == "us") + 0.3 * (engine.calibrator == "percentile")

    _, precision, calibration = what_to_choose(made_up_results(separation)).paragraphs
    assert "For US it costs more" in precision
    assert "the smallest engine that stays within is INT8 PTQ, train, mse, auto:2 in FP16" in precision
    assert "Take INT8 by PTQ for RD, STFPM and DCAM." in precision
    assert re.search(r"Take [a-z+-]+ with percentile\.", calibration)


def test_calibration_counts_what_is_better_and_worse(results: Results) -> None:
    said = text_of(calibration_strategy(results))
    assert "US: of 15 other combinations, intervals that exclude zero show 0 to be better and 4 worse" in said
    assert "60 intervals of 95 %: of so many, 3.0" in said
    assert len(calibration_strategy(results).tables) == 4


def test_a_class_that_suffers_from_its_neighbours_is_named() -> None:
    def separation(method: str, scope: str, engine: Engine) -> float:
        return 1.5 + {UNIFIED: 0.0, "tile": 0.8}.get(scope, -0.8)

    said = text_of(alike_classes(made_up_results(separation)))
    assert "worse than the class's own in 4 (US on tile; RD on tile; STFPM on tile; DCAM on tile)" in said
    assert "better in 12" in said


def test_likeness_and_loss_are_correlated_where_they_are() -> None:
    # Made-up reach grows with the class's number.
    def separation(method: str, scope: str, engine: Engine) -> float:
        return 1.0 + (0.0 if scope == UNIFIED else 0.4 * CLASSES.index(scope))

    said = text_of(alike_classes(made_up_results(separation)))
    assert "the more alike, the more the unified model loses" in said
    assert "no class reaches its neighbour" in said


def test_likeness_that_costs_nothing_is_said_to_cost_nothing() -> None:
    def separation(method: str, scope: str, engine: Engine) -> float:
        return 1.0 - (0.0 if scope == UNIFIED else 0.4 * CLASSES.index(scope))

    assert "likeness is not shown to cost anything" in text_of(alike_classes(made_up_results(separation)))
    assert "do not vary" in text_of(alike_classes(made_up_results(even)))


def test_the_page_needs_nothing_else(results: Results, tmp_path: Path) -> None:
    write_report(tmp_path, results, inputs(tmp_path), with_images=False)
    page = (tmp_path / "index.html").read_text()
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)
    assert page.count("<svg") == 3
    assert page.count("data:image/jpeg;base64,") == len(METHODS) * len(CLASSES)
    assert "{{" not in page
    markdown = (tmp_path / "study.md").read_text()
    for plot in re.findall(r"\((plots/[\w-]+\.svg)\)", markdown):
        assert (tmp_path / plot).read_text().startswith("<svg")
    assert "arXiv 2407.02968" in markdown


def test_a_row_for_every_engine_and_class(results: Results, tmp_path: Path) -> None:
    write_report(tmp_path, results, inputs(tmp_path), with_images=False)
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    expected = sum(len(step.classes) for step in results.plan if step.engine)
    assert len(rows) == expected
    default = INT8.model_dump(mode="json")
    row = next(
        row
        for row in rows
        if (row["method"], row["run"], row["class"]) == ("rd", UNIFIED, "pcb")
        and all(row[name] == ("" if value is None else str(value)) for name, value in default.items())
    )
    gain = results.engine("rd", INT8), results.engine("rd", FP32)
    first, second = (found.classes["pcb"].metrics["image_auroc"] for found in gain if found)
    assert float(row["image_auroc_minus_fp32"]) == pytest.approx(first - second)
    assert float(row["interval_low"]) <= first - second <= float(row["interval_high"])
    assert json.loads((tmp_path / "results.json").read_text())["latency"]["threads"] == 2


@pytest.mark.parametrize("seed", range(4))
def test_whatever_fails_there_is_a_page_that_says_so(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    kept = {"rd/unified/training", "rd/unified/fp32"}
    results = made_up_results(even, failing=lambda step: step.id not in kept and generator.random() < 0.6)
    write_report(tmp_path, results, inputs(tmp_path), with_images=False)
    page = (tmp_path / "index.html").read_text()
    assert "What failed" in page
    assert page.count("The disk is full; make room.") == len(results.failures)


def test_one_class_and_one_method_are_enough(tmp_path: Path) -> None:
    results = made_up_results(even, methods=("stfpm",), classes=("casting",))
    write_report(tmp_path, results, inputs(tmp_path), with_images=False)
    assert "STFPM has the highest mean" in (tmp_path / "study.md").read_text()


def test_text_is_escaped(tmp_path: Path) -> None:
    table = Table("a <b>", [Column("x | y")], [[Cell("<i>")], [Cell("a | b", shade=-0.5)]])
    sections = [Section("<s>", ["1 < 2"], [table], [Plot("p", "c", "<svg ></svg>")])]
    write_html(tmp_path / "a.html", "<t>", "", sections)
    write_markdown(tmp_path / "a.md", "t", "", sections)
    page = (tmp_path / "a.html").read_text()
    assert not any(tag in page for tag in ("<t>", "<s>", "<i>", "a <b>"))
    assert "<svg" in page
    assert "a \\| b" in (tmp_path / "a.md").read_text()


def test_figures_read_as_people_write_them() -> None:
    assert [signed(value) for value in (0.0123, -0.0123, 0.0001, -0.0001)] == ["+0.012", "−0.012", "0.000", "0.000"]
    assert change(Interval(-0.2, -0.3, -0.1)) == Cell("−0.200 [−0.300, −0.100]", shade=-1.0)
    assert change(Interval(0.02, -0.01, 0.05)) == Cell("+0.020 [−0.010, +0.050]")
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert (times(1, "class"), times(3, "class"), times(2, "method")) == ("1 class", "3 classes", "2 methods")
