"""What a study plans, how long it says that takes, and what its folder remembers."""

import dataclasses
from pathlib import Path

import pytest

from build_engines.errors import StudyError
from build_engines.quantization import defaults
from build_engines.study.estimate import Estimator, duration
from build_engines.study.inputs import Inputs
from build_engines.study.plan import CALIBRATIONS, CALIBRATORS, FP32, FULL, INT8, QUICK, UNIFIED, Step, make_plan
from build_engines.study.records import Record, StudyFolder, TrainingResult
from engines.bundle import is_name
from tests.build_engines.made_up_study import CLASSES

METHODS = ("us", "rd", "stfpm", "dcam")


@pytest.fixture
def inputs() -> Inputs:
    digests = {"teacher": "t", "unispect": "0"}
    digests |= {f"{what} of {name}": f"{what} {name}" for what in ("train", "test") for name in CLASSES}
    counts = dict.fromkeys(CLASSES, 100)
    return Inputs(Path("/data"), CLASSES, "resnet18", None, FULL, counts, counts, digests)


def engines(plan: list[Step], method: str, scope: str = UNIFIED) -> list[Step]:
    return [step for step in plan if step.method == method and step.scope == scope and step.engine]


def test_every_calibration_meets_every_calibrator() -> None:
    planned = [step.engine for step in engines(make_plan(METHODS, CLASSES, quick=False), "rd")]
    default = [one for one in planned if one and one == INT8.model_copy(update=_calibration(one))]
    assert {(one.calibration, one.calibrator) for one in default} == {(a, b) for a in CALIBRATIONS for b in CALIBRATORS}


def test_everything_else_differs_from_the_default_in_one_thing() -> None:
    for step in engines(make_plan(METHODS, CLASSES, quick=False), "rd"):
        if step.engine and step.engine.precision == "int8" and step.group != "calibration":
            assert (step.engine.calibration, step.engine.calibrator) == ("train", defaults.CALIBRATOR)


def test_qat_stands_beside_a_control_of_as_many_epochs() -> None:
    for quick in (False, True):
        planned = [step.engine for step in engines(make_plan(["rd"], CLASSES, quick), "rd") if step.engine]
        tuned = {one.mode: one for one in planned if one.fine_tuning_epochs and one.precision == "int8"}
        assert tuned["qat"].fine_tuning_epochs == tuned["ptq"].fine_tuning_epochs


def test_one_class_runs_are_of_every_class() -> None:
    plan = make_plan(METHODS, CLASSES, quick=False)
    for name in CLASSES:
        assert [step.engine for step in engines(plan, "us", name)] == [FP32, INT8]
        assert Step("training", "training", "us", name, (name,)) in plan


def test_one_class_alone_is_trained_once() -> None:
    plan = make_plan(["rd"], CLASSES[:1], quick=False)
    assert sum(step.kind == "training" for step in plan) == 1


def test_a_quick_study_takes_two_classes_and_fewer_engines() -> None:
    quick, full = make_plan(METHODS, CLASSES, quick=True), make_plan(METHODS, CLASSES, quick=False)
    assert {name for step in quick for name in step.classes} == set(CLASSES[:2])
    assert len(quick) < len(full) / 2


def test_ids_name_files_and_bundles() -> None:
    plan = make_plan(METHODS, CLASSES, quick=False)
    assert len({step.id for step in plan}) == len(plan)
    assert all(is_name(step.engine.slug) for step in plan if step.engine)


def test_trainings_come_before_their_engines_and_latency_last() -> None:
    plan = make_plan(METHODS, CLASSES, quick=False)
    place = {step.id: number for number, step in enumerate(plan)}
    assert all(place[step.needs] < place[step.id] for step in plan if step.needs)
    assert plan[-1].kind == "latency"


def test_a_key_changes_with_what_the_step_is_made_from(inputs: Inputs) -> None:
    plan = make_plan(["stfpm"], CLASSES, quick=False)
    before = inputs.keys(plan)
    changed = dataclasses.replace(inputs, digests={**inputs.digests, "test of pcb": "other"}).keys(plan)
    moved = {name for name in before if before[name] != changed[name]}
    assert moved == {step.id for step in plan if step.engine and "pcb" in step.classes}
    retrained = dataclasses.replace(inputs, digests={**inputs.digests, "train of pcb": "other"}).keys(plan)
    moved = {name for name in before if before[name] != retrained[name]}
    assert moved == {step.id for step in plan if step.id in before and "pcb" in step.classes}
    assert dataclasses.replace(inputs, effort=QUICK).keys(plan).items().isdisjoint(before.items())


def test_estimates_follow_what_steps_took(inputs: Inputs) -> None:
    plan = make_plan(["stfpm"], CLASSES, quick=False)
    grid = [step for step in plan if step.group == "calibration"]
    estimator = Estimator(inputs)
    first = estimator.seconds(grid[1])
    estimator.observe(grid[0], 3 * estimator.seconds(grid[0]))
    assert estimator.seconds(grid[1]) == pytest.approx(3 * first)
    other = next(step for step in plan if step.group == "precisions")
    assert estimator.seconds(other) == pytest.approx(3 * Estimator(inputs).seconds(other))


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (100, "2 min"), (3600, "1 h 00 min"), (8000, "2 h 13 min")]
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_record_is_found_by_its_key_alone(tmp_path: Path) -> None:
    folder, step = StudyFolder.open(tmp_path / "study"), make_plan(["rd"], CLASSES, quick=True)[0]
    folder.begin()
    record = Record(step=step.id, key="a" * 64, seconds=1.0, sentence="The disk is full.")
    folder.save(step, record)
    assert folder.load(step, "a" * 64) == record
    assert folder.load(step, "b" * 64) is None
    folder.path("steps", step, "a" * 64, ".json").write_text("{")
    assert folder.load(step, "a" * 64) is None


def test_results_survive_their_file(tmp_path: Path) -> None:
    step = make_plan(["rd"], CLASSES, quick=True)[0]
    result = TrainingResult(
        epochs=2,
        best_epoch=1,
        batch_size=8,
        optimizer="adam",
        learning_rate=0.1,
        weight_decay=0,
        image_size=128,
        teacher="t",
        seconds=3.0,
    )
    record = Record(step=step.id, key="a" * 64, seconds=1.0, result=result)
    StudyFolder(tmp_path).save(step, record)
    assert StudyFolder(tmp_path).load(step, "a" * 64) == record


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StudyError, match="is no study"):
        StudyFolder.open(tmp_path)
    with pytest.raises(StudyError, match="is a file"):
        StudyFolder.open(tmp_path / "letter.txt")
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(StudyError, match="not of a study of this unispect"):
        StudyFolder.open(tmp_path)


def _calibration(engine: object) -> dict[str, str]:
    return {name: getattr(engine, name) for name in ("calibration", "calibrator")}
