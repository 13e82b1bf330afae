"""A Dockerfile as a parser sees it: stages, and the instructions of each."""

import io
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
JETSON = ROOT / "Dockerfile.l4t"
CPU = ROOT / "deploy" / "Dockerfile.cpu"


@dataclass
class Stage:
    """`base` is an image or an earlier stage, with the build arguments put in."""

    base: str
    name: str | None
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [value for name, value in self.instructions if name == instruction]

    def only(self, instruction: str) -> str:
        (value,) = self.all(instruction)
        return value

    def executed(self, instruction: str) -> list[str]:
        """The words of a command in exec form; fails on shell form."""
        words = json.loads(self.only(instruction).rpartition("CMD ")[2])
        assert isinstance(words, list)
        return words

    def copies(self) -> list[tuple[str | None, list[str]]]:
        """The stage that each COPY takes from, None for the build context, and the sources."""
        found = []
        for value in self.all("COPY"):
            words = shlex.split(value)
            origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
            found.append((origin, words[:-1]))
        return found


def parse(file: Path = JETSON, **build_arguments: str) -> DockerfileParser:
    return DockerfileParser(fileobj=io.BytesIO(file.read_bytes()), build_args=build_arguments)


def stages(file: Path = JETSON, **build_arguments: str) -> list[Stage]:
    """The stages in their order; the last is the image."""
    parser = parse(file, **build_arguments)
    bases = iter(parser.parent_images)
    found: list[Stage] = []
    for entry in parser.structure:
        if entry["instruction"] == "FROM":
            words = entry["value"].split()
            found.append(Stage(next(bases), words[2] if len(words) == 3 else None))
        elif found and entry["instruction"] != "COMMENT":
            found[-1].instructions.append((entry["instruction"], entry["value"]))
    return found
