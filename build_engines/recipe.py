"""Recipes: how to train, in a YAML file of the user's own or one that is shipped."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from build_engines.errors import RecipeError
from build_engines.methods import METHODS
from build_engines.methods.base import OptimizerSettings
from build_engines.networks.resnet import ARCHITECTURES
from build_engines.networks.weights import PROCEDURAL, PROCEDURAL_ARCHITECTURE
from build_engines.run import TrainSettings

SHIPPED = Path(__file__).with_name("recipes")
SUFFIXES = (".yaml", ".yml")

_DEFAULT_TEACHER = "resnet18"
_DEFAULT_OVERLAP = 32
_CYCLE_WARMUP = 0.3


class Recipe(BaseModel):
    """All that can be chosen of a training. What is None is the method's own, or the default of `TrainSettings`.

    Attributes:
        teacher_weights: a file, or `procedural`; None for torchvision's.
        classes: part classes; None for all.
        optimizer: keys of `OptimizerSettings` that differ from the method's; all of them for another optimiser.
        options: of the method alone, as its `options` class has them.
        devices: GPUs, or processes on the CPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = "stfpm"
    teacher: str | None = None
    teacher_weights: str | None = None
    classes: list[str] | None = Field(default=None, min_length=1)
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: dict[str, JsonValue] = {}
    schedule: str | None = None
    warmup: float | None = None
    patience: int | None = None
    image_size: int = 256
    tile: int | None = None
    overlap: int | None = None
    augmentation: bool | None = None
    corruption: float | None = None
    frozen_statistics: float | None = None
    mixed_precision: bool | None = None
    held_out: float = 0.2
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(default=1, gt=0)
    options: dict[str, JsonValue] = {}

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        return _one_of(name, METHODS)

    @field_validator("teacher")
    @classmethod
    def _known_teacher(cls, name: str | None) -> str | None:
        return name if name is None else _one_of(name, ARCHITECTURES)

    def settings(self) -> TrainSettings:
        """What is decided with the method's own values in. Raises ValidationError."""
        method = METHODS[self.method]
        procedural = self.teacher_weights == PROCEDURAL
        # The numbers of one optimiser say nothing about another's.
        own = method.optimizer.model_dump()
        optimizer = {**(own if self.optimizer.get("name", own["name"]) == own["name"] else {}), **self.optimizer}
        defaults = {
            "teacher": PROCEDURAL_ARCHITECTURE if procedural else _DEFAULT_TEACHER,
            "epochs": method.epochs,
            "batch_size": method.batch_size,
            "corruption": method.corruption,
            "frozen_statistics": method.frozen_statistics,
            "schedule": method.schedule,
            "overlap": _DEFAULT_OVERLAP if self.tile else 0,
            "warmup": _CYCLE_WARMUP if self.schedule == "onecycle" else 0.0,
        }
        chosen = self.model_dump(include=set(TrainSettings.model_fields), exclude_none=True)
        return TrainSettings.model_validate({**defaults, **chosen, "optimizer": optimizer})


def read_recipe(name: str) -> dict[str, Any]:
    """The keys and values of a shipped recipe, or of the YAML file at a path that ends in .yaml or .yml, unchecked.

    Raises:
        RecipeError: there is none, it is no YAML mapping, or it has a key twice.
    """
    is_file = name.endswith(SUFFIXES)
    path = Path(name) if is_file else SHIPPED / f"{name}.yaml"
    if not path.is_file():
        shipped = ", ".join(recipe.stem for recipe in shipped_recipes())
        raise RecipeError(f"There is no recipe {name}; give a {' or '.join(SUFFIXES)} file, or one of {shipped}.")
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_duplicates(yaml.compose(text, yaml.SafeLoader), name)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"The recipe {name} cannot be read as YAML ({reason}); mend it.") from error
    if not isinstance(values, dict):
        raise RecipeError(f"The recipe {name} is not a mapping of keys to values; it may have {_keys(Recipe)}.")
    return values


def shipped_recipes() -> list[Path]:
    """The files of the recipes that come with the project, by name."""
    return sorted(SHIPPED.glob("*.yaml"))


def check_recipe(values: Mapping[str, Any], named: Callable[[str], str]) -> tuple[Recipe, TrainSettings]:
    """A recipe and the settings it gives.

    Args:
        values: keys and values of `Recipe`.
        named: what the user calls a key.

    Raises:
        RecipeError: an unknown key, a value that is not allowed, or keys that contradict each other.
    """
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_sentence(error.errors()[0], named, {(): Recipe})) from error
    method = METHODS[recipe.method]
    try:
        options = method.options.model_validate(recipe.options)
    except ValidationError as error:
        first = error.errors()[0]
        first["loc"] = ("options", *first["loc"])
        raise RecipeError(_sentence(first, named, {("options",): method.options})) from error
    recipe = recipe.model_copy(update={"options": options.model_dump(mode="json")})
    try:
        settings = recipe.settings()
    except ValidationError as error:
        raise RecipeError(_sentence(error.errors()[0], named, {("optimizer",): OptimizerSettings})) from error
    for contradiction in _contradictions(recipe, settings):
        raise RecipeError(contradiction)
    return recipe, settings


def _contradictions(recipe: Recipe, settings: TrainSettings) -> Iterator[str]:
    if settings.optimizer.name == "sgd" and "second_beta" in recipe.optimizer:
        yield "optimizer.second_beta is of adam alone; leave it out, or say optimizer.name: adam."
    if recipe.devices > settings.batch_size:
        yield f"devices {recipe.devices} cannot share batch_size {settings.batch_size}; give each an image at least."


def _sentence(
    error: ErrorDetails, named: Callable[[str], str], models: Mapping[tuple[int | str, ...], type[BaseModel]]
) -> str:
    if not error["loc"]:
        return str(error["ctx"]["error"])
    name = named(".".join(map(str, error["loc"])))
    match error["type"]:
        case "extra_forbidden":
            allowed = _keys(models[error["loc"][:-1]])
            return f"{name} is unknown; there " + (f"are {allowed}." if allowed else "is nothing to choose here.")
        case "literal_error":
            return f"{name} {error['input']!r} is not one of {error['ctx']['expected']}."
        case "missing":
            return f"{name} is missing; another optimiser than the method's needs all its keys."
        case _:
            return f"{name}: {error['msg']}, not {error['input']}."


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _one_of(name: str, allowed: Mapping[str, object]) -> str:
    if name not in allowed:
        raise PydanticCustomError("literal_error", "unknown", {"expected": ", ".join(allowed)})
    return name


def _refuse_duplicates(node: yaml.Node | None, name: str) -> None:
    """PyYAML would take the last of them in silence. No recipe has mappings in those that it holds."""
    if not isinstance(node, yaml.MappingNode):
        return
    for mapping in (node, *(value for _, value in node.value if isinstance(value, yaml.MappingNode))):
        keys = [key.value for key, _ in mapping.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise RecipeError(f"The recipe {name} has {twice} twice; keep one.")
