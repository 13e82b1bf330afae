"""The study's text, tables and plots before they become HTML or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from build_engines.study.statistics import Interval

NOTHING = "–"
# The difference of AUROC that is coloured in full.
_FULL_COLOUR = 0.1


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        shade: in [-1, 1], colours the background: losses below zero, gains above; None leaves it.
        paper: a figure of the papers, not of this study.
        strong: stands out.
    """

    text: str
    shade: float | None = None
    paper: bool = False
    strong: bool = False


@dataclass(frozen=True)
class Column:
    """A column's name with its unit, and what a run of columns has in common."""

    label: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first `headings` columns name the row. Notes stand below."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    headings: int = 1
    notes: Sequence[str] = ()

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Names that columns share, each with how many in a row share it; empty where none do."""
        runs: list[tuple[str, int]] = []
        for column in self.columns:
            if runs and runs[-1][0] == column.group:
                runs[-1] = (column.group, runs[-1][1] + 1)
            else:
                runs.append((column.group, 1))
        return runs if any(name for name, _ in runs) else []

    @property
    def shown_rows(self) -> list[list[Cell]]:
        """The rows; of several headings the first is blank where it repeats the row above."""
        shown, above = [], ""
        for first, *rest in self.rows:
            repeats = self.headings > 1 and first.text == above
            shown.append([Cell("") if repeats else first, *rest])
            above = first.text
        return shown


@dataclass(frozen=True)
class Plot:
    """An SVG with a name for its file and a sentence for those who do not see it."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with what stands below it."""

    source: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then tables, plots and pictures."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    pictures: Sequence[Picture] = field(default=())


def number(value: float | None, digits: int = 3) -> Cell:
    """A measured figure."""
    return Cell(NOTHING if value is None else f"{value:.{digits}f}".replace("-", "−"))


def of_paper(value: float | str | None, digits: int = 2) -> Cell:
    """A figure of the papers; text stays as it is."""
    if value is None or isinstance(value, str):
        return Cell(value or NOTHING, paper=True)
    return Cell(f"{value:.{digits}f}", paper=True)


def megabytes(size: float | None) -> Cell:
    """Bytes as MB."""
    return Cell(NOTHING if size is None else f"{size / 1e6:.1f}")


def signed(value: float, digits: int = 3) -> str:
    """With its sign, and a real minus; what rounds to zero has none."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text[1:]


def change(found: Interval | None) -> Cell:
    """A difference of AUROC with its interval, shaded where that excludes zero."""
    if found is None:
        return Cell(NOTHING)
    return Cell(told(found), None if found.includes_zero else shade(found))


def shade(found: Interval) -> float:
    """A difference of AUROC as the strength of a colour, in [-1, 1]."""
    return max(-1.0, min(1.0, found.estimate / _FULL_COLOUR))


def told(found: Interval) -> str:
    """A difference with its interval."""
    return f"{signed(found.estimate)} [{signed(found.low)}, {signed(found.high)}]"
