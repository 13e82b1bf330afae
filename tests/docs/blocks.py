"""The pages of the documentation as readers see them: code blocks, commands in a line, and the marks for the tests.

A mark is a comment before what it is about:

`<!-- given: parts, bundle -->`    what the page's folder holds before its first block; see `tests.docs.folder`.
`<!-- stays up -->`                the next block starts a service, which runs until the page's end.
`<!-- not run: docker -->`         why the tests cannot run the next block, one of `REASONS`, and more in parentheses
                                   where that helps.
`<!-- slow -->`                    the page's blocks take longer than a few seconds together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
# What these machines do not have, or what takes too long for any test.
REASONS = ("docker", "Jetson", "GPU", "cluster", "network", "hours")
LANGUAGES = ("sh", "python")

_MARK = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_NOT_RUN = re.compile(r"not run: (?:needs )?(\w+)(?: \(.+\))?", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: of the file, from 1.
        language: the first word after the fence.
        code: what is in it.
        marks: what the comments right before it say.
    """

    page: Path
    line: int
    language: str
    code: str
    marks: tuple[str, ...]

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it is not run, as it stands there; None where it is. It may be none of `REASONS`."""
        marks = [mark for mark in self.marks if mark.startswith("not run")]
        if not marks:
            return None
        found = _NOT_RUN.fullmatch(marks[0])
        return found[1] if found else marks[0]

    @property
    def stays_up(self) -> bool:
        """Whether it is the start of a service."""
        return "stays up" in self.marks


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """Relative to the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def tokens(self) -> list[Token]:
        """As CommonMark with tables."""
        return MarkdownIt("commonmark").enable("table").parse(self.path.read_text())

    @cached_property
    def marks(self) -> list[str]:
        """What all its comments say, in order."""
        return [mark for token in self.tokens if token.type == "html_block" for mark in _MARK.findall(token.content)]

    @property
    def given(self) -> list[str]:
        """What its folder holds before its first block."""
        return [
            name.strip()
            for mark in self.marks
            if mark.startswith("given:")
            for name in mark.removeprefix("given:").split(",")
        ]

    @property
    def is_slow(self) -> bool:
        """Whether it takes longer than a few seconds."""
        return "slow" in self.marks

    @cached_property
    def blocks(self) -> list[Block]:
        """Those in languages that can be run."""
        found, marks = [], []
        for token in self.tokens:
            if token.type == "html_block":
                marks += _MARK.findall(token.content)
                continue
            if token.type == "fence" and (language := token.info.split(" ")[0]) in LANGUAGES:
                assert token.map is not None
                found.append(Block(self.path, token.map[0] + 1, language, token.content, tuple(marks)))
            marks = []
        return found

    def in_lines(self) -> Iterator[str]:
        """What stands as code within sentences and tables."""
        for token in self.tokens:
            for child in token.children or ():
                if child.type == "code_inline":
                    yield child.content


def pages() -> list[Page]:
    """All of them: the README, and the site's."""
    return [Page(ROOT / "README.md"), *(Page(path) for path in sorted((ROOT / "docs").rglob("*.md")))]
