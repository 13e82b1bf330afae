"""Commands in a shell's text, and whether the project's own programs would take them."""

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from typer.exceptions import TyperException
from typer.main import get_command

from build_engines.cli import app
from engines.errors import UnispectError
from service.__main__ import COMMANDS
from service.settings import read_settings
from tests.docs.blocks import ROOT

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?[^\n]*\n.*?^\s*\1$", re.MULTILINE | re.DOTALL)
# Words that begin a command and are none: the command follows.
_BEFORE = frozenset({"then", "do", "else", "if", "while", "until", "!", "time", "sudo", "exec", "nohup", "{"})


def commands(code: str) -> Iterator[list[str]]:
    """The simple commands of a shell's text, word by word; those in `$(...)` too.

    Raises ValueError where a quotation does not end.
    """
    text = _HEREDOC.sub("", code).replace("\\\n", " ")
    for inner in re.findall(r"\$\(([^()]*)\)", text):
        yield from commands(inner)
    unread = ""
    for line in text.splitlines():
        unread += line
        try:
            words = list(_lexer(unread))
        except ValueError:
            # A quotation that goes on in the next line.
            unread += "\n"
            continue
        unread = ""
        command: list[str] = []
        for word in words:
            if set(word) <= set("();|&"):
                yield from _without_prefix(command)
                command = []
            else:
                command.append(word)
        yield from _without_prefix(command)
    if unread:
        raise ValueError(f"a quotation does not end: {unread[:80]!r}")


def wrong(words: Sequence[str]) -> str | None:
    """Why one of the project's own programs would refuse a command; None where it would not, or for other programs."""
    arguments = _without_launcher(_without_redirections(words))
    if "--help" in arguments:
        return None
    match arguments:
        case ["build-engines", *rest]:
            return _wrong_for_builder(rest)
        case ["inspection-service", *rest]:
            return _wrong_for_service(rest)
        case [python, "-m", module, *rest] if _is_python(python) and _is_own(module):
            return _wrong_for_source(_file_of(module), rest)
        case [python, file, *rest] if _is_python(python) and file.endswith(".py"):
            return _wrong_for_source(ROOT / file, rest)
        case [program, *_] if program.startswith(("deploy/", "./")):
            return None if (ROOT / program).is_file() else f"there is no {program}"
        case _:
            return None


def _lexer(text: str) -> shlex.shlex:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    return lexer


def _without_prefix(words: list[str]) -> Iterator[list[str]]:
    while words and (words[0] in _BEFORE or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    if words:
        yield words


def _without_launcher(words: list[str]) -> list[str]:
    """What torchrun or a container's runtime is told to start, where that is one of the programs."""
    own = [index for index, word in enumerate(words) if word in ("build-engines", "inspection-service")]
    return words[own[0] :] if own and words[0] in ("torchrun", "docker", "kubectl") else words


def _without_redirections(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif set(word) <= set("<>&"):
            skip = True
            if kept and kept[-1].isdigit():
                kept.pop()
        else:
            kept.append(word)
    return kept


def _wrong_for_builder(arguments: list[str]) -> str | None:
    group = get_command(app)
    try:
        with group.make_context("build-engines", list(arguments)) as context:
            name, command, rest = group.resolve_command(context, list(arguments))
            with command.make_context(name, rest, parent=context):
                return None
    except TyperException as error:
        return error.format_message()


def _wrong_for_service(arguments: list[str]) -> str | None:
    if arguments and arguments[0] in COMMANDS:
        return _wrong_for_source(_file_of(COMMANDS[arguments[0]]), arguments[1:])
    try:
        # Given on the command line or in the environment; here only the flags count.
        read_settings([*arguments, *([] if "--bundle" in arguments else ["--bundle", "bundles/parts"])])
    except UnispectError as error:
        return str(error)
    return None


def _wrong_for_source(file: Path, arguments: Sequence[str]) -> str | None:
    """By the flags and sub-commands that the program's source has; to run it for its help would take seconds."""
    name = file.relative_to(ROOT)
    if not file.is_file():
        return f"there is no {name}"
    known = _texts(file)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    unknown = [word for word in own if word.startswith("--") and word.partition("=")[0] not in known]
    if unknown:
        return f"{unknown[0]} is no flag of {name}"
    if "add_subparsers" in file.read_text() and (not own or own[0] not in known):
        return f"{' '.join(own[:1]) or 'nothing'} is no sub-command of {name}"
    return None


@cache
def _texts(file: Path) -> frozenset[str]:
    """All that stands in quotation marks."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_python(word: str) -> bool:
    return Path(word).name in ("python", "python3")


def _is_own(module: str) -> bool:
    return module.split(".")[0] in ("benchmarks", "build_engines", "docs", "service")


def _file_of(module: str) -> Path:
    """Of a module of this repository."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
