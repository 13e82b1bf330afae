"""What a study is made from, checked before anything runs, and the digests that tell whether a record still holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pydantic import JsonValue

from build_engines.data.folder import find_parts, find_tests, fingerprint
from build_engines.methods import METHODS
from build_engines.networks.weights import load_teacher
from build_engines.recipe import Recipe
from build_engines.study.plan import Effort, Step
from build_engines.study.records import digest


@dataclass(frozen=True)
class Inputs:
    """Data, teacher and effort of a study.

    Attributes:
        teacher, weights: as `build-engines train` takes them.
        images: good training images, held-out ones included, of each class.
        tests: test pictures of each class.
        digests: of everything that results depend on, by name.
    """

    data: Path
    classes: tuple[str, ...]
    teacher: str | None
    weights: str | None
    effort: Effort
    images: dict[str, int]
    tests: dict[str, int]
    digests: dict[str, str] = field(repr=False)

    @classmethod
    def read(
        cls, data: Path, teacher: str | None, weights: str | None, effort: Effort, most_classes: int | None
    ) -> "Inputs":
        """Check data and teacher.

        Args:
            most_classes: only the first so many; None for all.

        Raises:
            DataError: no data folder, or a class without training or test images.
            WeightsError: the teacher cannot be loaded.
        """
        parts = find_parts(data)[:most_classes]
        classes = tuple(part.name for part in parts)
        tests = {name: find_tests(data, [name]) for name in classes}
        architecture = Recipe(teacher=teacher, teacher_weights=weights).settings().teacher
        digests = {"teacher": load_teacher(architecture, weights)[1].sha256, "unispect": version("unispect")}
        for part in parts:
            digests[f"train of {part.name}"] = fingerprint(data, part.train)
            used = [path for test in tests[part.name] for path in (test.path, test.mask) if path is not None]
            digests[f"test of {part.name}"] = fingerprint(data, used)
        return cls(
            data=data,
            classes=classes,
            teacher=teacher,
            weights=weights,
            effort=effort,
            images={part.name: len(part.train) for part in parts},
            tests={name: len(found) for name, found in tests.items()},
            digests=digests,
        )

    def recipe(self, method: str) -> Recipe:
        """How a method's runs are trained."""
        effort, own = self.effort, METHODS[method].epochs
        return Recipe(
            method=method,
            teacher=self.teacher,
            teacher_weights=self.weights,
            epochs=own if effort.epochs is None else min(own, effort.epochs),
            batch_size=effort.batch_size,
            image_size=effort.image_size,
            options=effort.options.get(method, {}),
        )

    def options(self, method: str) -> dict[str, JsonValue]:
        """All options of a method's runs, the method's own too."""
        chosen = METHODS[method].options.model_validate(self.effort.options.get(method, {}))
        return dict(chosen.model_dump(mode="json"))

    def keys(self, plan: Sequence[Step]) -> dict[str, str]:
        """Keys of the plan's trainings and engines, by step id: digests of settings and inputs."""
        keys: dict[str, str] = {}
        for step in plan:
            if step.kind == "training":
                settings = self.recipe(step.method).settings().model_dump(mode="json")
                made_from = self._digests_of(step, "train of "), self.digests["teacher"], self.digests["unispect"]
                keys[step.id] = digest([settings, self.options(step.method), made_from])
            elif step.engine is not None and step.needs is not None:
                asked = step.engine.model_dump(mode="json"), self.effort.calibration_images
                keys[step.id] = digest([keys[step.needs], asked, self._digests_of(step, "test of ")])
        return keys

    def key_of_engines(self, step: Step, engines: Mapping[str, str]) -> str:
        """The key of a step that takes engines with these keys, by step id."""
        return digest([step.id, self.effort.repeats, dict(engines)])

    def _digests_of(self, step: Step, prefix: str) -> dict[str, str]:
        return {name: self.digests[prefix + name] for name in step.classes}
