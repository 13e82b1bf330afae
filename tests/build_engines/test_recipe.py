"""Recipes: what is shipped, what goes before what, and one sentence for each mistake."""

from pathlib import Path

import pytest
import yaml

from build_engines.commands.train import parse_options
from build_engines.methods import METHODS
from build_engines.recipe import Recipe, check_recipe, read_recipe, shipped_recipes
from build_engines.run import TrainSettings
from tests.build_engines.test_cli import call


@pytest.fixture
def written(tmp_path: Path) -> object:
    def write(content: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_every_setting_is_a_key_of_a_recipe() -> None:
    assert TrainSettings.model_fields.keys() <= Recipe.model_fields.keys()


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    values = read_recipe(path.stem)
    if values.get("method", "stfpm") not in METHODS:
        pytest.skip(f"there is no method {values['method']} yet")
    recipe, settings = check_recipe(values, str)
    assert path.read_text().startswith("# ")
    assert settings.method == recipe.method


def test_a_recipe_of_the_paper_has_the_papers_numbers() -> None:
    """P1, table 1."""
    _, settings = check_recipe(read_recipe("rd-paper"), str)
    optimizer = settings.optimizer
    assert (settings.method, settings.teacher, settings.batch_size, settings.epochs) == (
        "rd",
        "wide_resnet50_2",
        16,
        200,
    )
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum, optimizer.second_beta) == (
        "adam",
        5e-3,
        0.5,
        0.999,
    )


def test_there_is_a_recipe_of_the_paper_for_every_method_and_a_quick_one() -> None:
    assert {path.stem for path in shipped_recipes()} >= {*(f"{method}-paper" for method in METHODS), "quick"}


def test_what_is_not_said_is_the_methods_own() -> None:
    _, settings = check_recipe({"method": "rd", "optimizer": {"learning_rate": 0.001}}, str)
    own = METHODS["rd"]
    assert settings.epochs == own.epochs
    assert settings.batch_size == own.batch_size
    assert settings.optimizer == own.optimizer.model_copy(update={"learning_rate": 0.001})
    assert settings.options == own.options().model_dump(mode="json")


def test_one_cycle_warms_up_unless_told_otherwise() -> None:
    assert check_recipe({"schedule": "onecycle"}, str)[1].warmup == 0.3
    assert check_recipe({"schedule": "onecycle", "warmup": 0.1}, str)[1].warmup == 0.1
    assert check_recipe({"schedule": "cosine"}, str)[1].warmup == 0.0


def test_numbers_may_be_written_as_yaml_takes_for_text(written: object) -> None:
    """YAML 1.1 reads 1e-3 as text: its numbers have a dot."""
    path = written("optimizer: {learning_rate: 1e-3}\n")  # type: ignore[operator]
    assert check_recipe(read_recipe(str(path)), str)[1].optimizer.learning_rate == 0.001


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch: 3", "epoch in recipe {path} is unknown; there are method, teacher, "),
        ("epochs: -3", "epochs in recipe {path}: Input should be greater than 0, not -3."),
        ("epochs: many", "epochs in recipe {path}: Input should be a valid integer"),
        ("method: patchcore", "method in recipe {path} 'patchcore' is not one of stfpm, "),
        ("teacher: vgg16", "teacher in recipe {path} 'vgg16' is not one of resnet18, "),
        ("schedule: linear", "schedule in recipe {path} 'linear' is not one of 'constant', 'cosine' or 'onecycle'."),
        ("device: tpu", "device in recipe {path} 'tpu' is not one of 'auto', 'cpu' or 'cuda'."),
        ("corruption: 2", "corruption in recipe {path}: Input should be less than or equal to 1, not 2."),
        ("optimizer: {rate: 1}", "optimizer.rate in recipe {path} is unknown; there are name, learning_rate, "),
        ("optimizer: {name: adam}", "optimizer.learning_rate in recipe {path} is missing; another optimiser"),
        ("optimizer: {name: rms}", "optimizer.name in recipe {path} 'rms' is not one of 'sgd' or 'adam'."),
        ("optimizer: {second_beta: 0.9}", "optimizer.second_beta is of adam alone"),
        ("options: {attention: channel}", "options.attention in recipe {path} is unknown; there is nothing to choose"),
        ("{method: dcam, options: {loss: kl}}", "options.loss in recipe {path} is unknown; there are attention, "),
        ("{method: dcam, options: {attention: no}}", "options.attention in recipe {path} False is not one of"),
        ("{patience: 9, epochs: 9}", "patience 9 must be below epochs 9"),
        ("{tile: 512}", "tile 512 must be no larger than image_size 256"),
        ("{overlap: 16}", "overlap 16 goes with tile alone"),
        ("{devices: 4, batch_size: 2}", "devices 4 cannot share batch_size 2"),
        ("classes: []", "classes in recipe {path}: List should have at least 1 item"),
        ("{epochs: 3, seed: 1, epochs: 4}", "The recipe {path} has epochs twice; keep one."),
        ("optimizer: {name: sgd, name: adam}", "The recipe {path} has name twice"),
        ("optimizer: &a {name: sgd, x: *a}", "optimizer"),
        ("- epochs", "The recipe {path} is not a mapping of keys to values"),
        ("", "The recipe {path} is not a mapping"),
        ("epochs: [", "The recipe {path} cannot be read as YAML"),
        ("seed: !!python/object/apply:os.getpid []", "The recipe {path} cannot be read as YAML"),
        ("1: 2", "1 in recipe {path}"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(
    capsys: pytest.CaptureFixture[str], written: object, tmp_path: Path, content: str, message: str
) -> None:
    path = written(content)  # type: ignore[operator]
    out = tmp_path / "run"
    code, _, error = call(capsys, "train", "--data", "/nowhere", "--out", out, "--recipe", path)
    assert code == 2
    assert message.format(path=path) in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "fast"], "There is no recipe fast; give a .yaml or .yml file, or one of dcam-paper, quick, "),
        (["--recipe", "/nowhere/a.yaml"], "There is no recipe /nowhere/a.yaml"),
        (["--schedule", "step"], "--schedule 'step' is not one of 'constant', 'cosine' or 'onecycle'."),
        (["--warmup", "1"], "--warmup: Input should be less than 1, not 1.0."),
        (["--patience", "30", "--epochs", "8"], "patience 30 must be below epochs 8"),
        (["--lr", "0"], "--lr: Input should be greater than 0, not 0.0."),
        (["--option", "loss=flat", "--method", "rd"], "--option loss 'flat' is not one of 'locations' or 'flattened'."),
        (["--option", "depth=3"], "--option depth is unknown; there is nothing to choose"),
        (["--option", "loss"], "--option 'loss' is not KEY=VALUE"),
        (["--option", "loss=["], "--option 'loss=[' is not KEY=VALUE"),
        (["--devices", "64"], "devices 64 cannot share batch_size 32"),
        (
            ["--recipe", "stfpm-paper", "--method", "dcam", "--option", "loss=flat"],
            "--option loss is unknown; there are",
        ),
        (["--recipe", "dcam-paper", "--method", "rd"], "options.attention in recipe dcam-paper is unknown; there are"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], message: str
) -> None:
    code, _, error = call(capsys, "train", "--data", "/nowhere", "--out", tmp_path / "run", *options)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_the_command_line_goes_before_the_recipe(
    capsys: pytest.CaptureFixture[str], parts_folder: Path, written: object, tmp_path: Path
) -> None:
    recipe = {
        "method": "rd",
        "teacher_weights": "procedural",
        "epochs": 9,
        "batch_size": 4,
        "image_size": 64,
        "seed": 5,
        "augmentation": True,
        "optimizer": {"learning_rate": 0.5, "weight_decay": 0.0},
        "options": {"loss": "flattened"},
        "device": "cpu",
    }
    path = written(yaml.safe_dump(recipe))  # type: ignore[operator]
    out = tmp_path / "run"
    asked = ["--epochs", "1", "--lr", "0.001", "--seed", "0", "--no-augment", "--option", "loss=locations"]
    code, _, error = call(capsys, "train", "--data", parts_folder, "--out", out, "--recipe", path, *asked)
    assert code == 0, error
    settings = TrainSettings.model_validate(yaml.safe_load((out / "run.json").read_text())["settings"])
    assert (settings.method, settings.batch_size, settings.image_size) == ("rd", 4, 64)
    assert (settings.epochs, settings.seed, settings.augmentation) == (1, 0, False)
    assert (settings.optimizer.learning_rate, settings.optimizer.weight_decay) == (0.001, 0.0)
    assert settings.options == {"loss": "locations", "length_weight": 0.1, "map": "fused"}


def test_options_are_read_as_a_recipe_has_them() -> None:
    assert parse_options(["fields=[17, 33]", "stride=4", "loss=flat", "on=true", "rate=0.5"]) == {
        "fields": [17, 33],
        "stride": 4,
        "loss": "flat",
        "on": True,
        "rate": 0.5,
    }


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "recipes")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines][:2] == [["dcam-paper", "dcam"], ["quick", "any"]]
    assert any("arXiv 2407.02968, table 1" in line for line in lines)
