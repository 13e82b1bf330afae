"""A study as one HTML page, as Markdown, and as figures for programs."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import jinja2

from build_engines.study.document import Plot, Section, Table
from engines.files import write_atomic

_PLOTS = "plots"


def write_html(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """One file that needs no network."""
    loader = jinja2.PackageLoader("build_engines", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.get_template("study.html").render(title=title, lead=lead, sections=sections)
    write_atomic(path, html.encode())


def write_markdown(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Markdown, with its plots as SVG files in `plots/` beside it."""
    lines = [f"# {title}", "", lead, ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for paragraph in section.paragraphs:
            lines += [paragraph, ""]
        for plot in section.plots:
            _write_plot(path.parent / _PLOTS, plot)
            lines += [f"![{plot.caption}]({_PLOTS}/{plot.name}.svg)", ""]
        for table in section.tables:
            lines += [*_table(table), ""]
    write_atomic(path, ("\n".join(lines).rstrip() + "\n").encode())


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Rows of equal keys; None is left empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, buffer.getvalue().encode())


def write_json(path: Path, figures: object) -> None:
    """Indented JSON."""
    write_atomic(path, (json.dumps(figures, indent=1) + "\n").encode())


def _table(table: Table) -> list[str]:
    names = [f"{column.group}: {column.label}" if column.group else column.label for column in table.columns]
    rows = ["| " + " | ".join(cell.text.replace("|", "\\|") for cell in row) + " |" for row in table.shown_rows]
    notes = [line for note in table.notes for line in ("", note)]
    lines = [f"**{table.caption}**", "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|", *rows]
    return lines + notes


def _write_plot(folder: Path, plot: Plot) -> None:
    # Alone, a picture does not know the page's colours.
    alone = plot.svg.replace("<svg ", '<svg style="color:#1b1b1b;background:#ffffff" ', 1)
    write_atomic(folder / f"{plot.name}.svg", alone.encode())
