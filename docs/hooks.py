"""What MkDocs adds to the site: the page of all commands and options, from the command line itself, and the mark."""

from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer import Context
from typer.core import TyperArgument, TyperOption
from typer.main import get_command

from build_engines.cli import app

_PAGE = "commands.md"
_MARK = Path(__file__).parents[1] / "service" / "web" / "icon.svg"
_HEAD = """# All commands

`build-engines COMMAND`, with every argument and option. [Build an engine](building.md) says what they are for.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of commands, and the mark of the service's pages."""
    files.append(File.generated(config, _PAGE, content="\n".join([_HEAD, *_sections()])))
    files.append(File.generated(config, "images/mark.svg", abs_src_path=str(_MARK)))
    return files


def _sections() -> Iterator[str]:
    group = get_command(app)
    with Context(group, info_name="build-engines") as context:
        for name in sorted(group.list_commands(context)):
            command = group.get_command(context, name)
            yield f"## {name}\n\n{command.help}\n"
            rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
            yield "\n".join(["| | | default |", "|---|---|---|", *rows, ""])


def _row(parameter: TyperArgument | TyperOption) -> str:
    """Of a table: name, meaning and default of an argument or an option."""
    if isinstance(parameter, TyperArgument):
        name = parameter.metavar or parameter.name.upper()
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.required:
        default = "required"
    elif parameter.default is None or parameter.default is False:
        default = ""
    else:
        default = f"`{parameter.default}`"
    meaning = (parameter.help or "").replace("|", "\\|")
    return f"| `{name}` | {meaning} | {default} |"
