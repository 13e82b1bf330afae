"""Every command of the documentation is run, or says why it cannot be and is one that could."""

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.docs.blocks import REASONS, Page, pages
from tests.docs.commands import commands, wrong
from tests.docs.shell import BASH, Shell

PAGES = pages()
NAMES = [page.name for page in PAGES]
_OWN_IN_A_LINE = re.compile(r"(build-engines|inspection-service) \S")
_KNOWN_MARK = re.compile(r"given: .+|not run: .+|stays up|slow", re.DOTALL)


def to_run() -> list[object]:
    """The pages with a block to run; slow where they say so."""
    return [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.is_slow else [])
        for page in PAGES
        if any(block.reason is None for block in page.blocks)
    ]


@pytest.mark.parametrize("page", to_run())
def test_the_blocks_of_a_page_run_one_after_the_other(page: Page, shell: Shell, give: Callable[[str], None]) -> None:
    for name in page.given:
        give(name)
    for block in page.blocks:
        if block.reason is None:
            shell.run(block)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_block_that_is_not_run_says_why(page: Page) -> None:
    reasons = {block.where: block.reason for block in page.blocks if block.reason}
    assert {where: reason for where, reason in reasons.items() if reason not in REASONS} == {}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_comment_of_a_page_is_a_mark(page: Page) -> None:
    assert [mark for mark in page.marks if not _KNOWN_MARK.fullmatch(mark)] == []
    before_blocks = sum(mark.startswith(("not run", "stays up")) for block in page.blocks for mark in block.marks)
    assert sum(mark.startswith(("not run", "stays up")) for mark in page.marks) == before_blocks


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_all_blocks_are_shell_that_bash_can_read(page: Page) -> None:
    for block in page.blocks:
        if block.language == "sh":
            read = subprocess.run([BASH, "-n"], input=block.code, capture_output=True, text=True)
            assert read.returncode == 0, f"{block.where}: {read.stderr}"
        else:
            compile(block.code, block.where, "exec")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_our_programs_have_every_sub_command_and_flag_that_a_page_names(page: Page) -> None:
    written = [
        (block.where, words) for block in page.blocks if block.language == "sh" for words in commands(block.code)
    ]
    refused = [f"{where}: {' '.join(words)}: {why}" for where, words in written if (why := wrong(words))]
    assert refused == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_our_programs_have_every_flag_that_a_sentence_names(page: Page) -> None:
    # What stands in a sentence is often cut short: what it leaves out is no mistake.
    cut_short = re.compile("Missing (argument|option|command)|Got unexpected extra|requires an argument")
    refused = []
    for code in page.in_lines():
        if _OWN_IN_A_LINE.match(code):
            for words in commands(code):
                why = wrong([word for word in words if word != "…"])
                if why and not cut_short.search(why):
                    refused.append(f"{code}: {why}")
    assert refused == []


@pytest.mark.parametrize(
    "command",
    [
        "build-engines train --data DATA --out run --metod rd",
        "build-engines trian --data DATA --out run",
        "build-engines train --data DATA",
        "build-engines quantize run --out B --epochs none",
        "inspection-service --bundle B --max-queu 3",
        "inspection-service --bundle B --max-queue many",
        "inspection-service keys create line-1 --rle inspect",
        "inspection-service keys invent",
        "python -m benchmarks.reliability swap B --activation 3",
        "python benchmarks/no_such_file.py",
    ],
)
def test_a_wrong_command_is_found_wrong(command: str) -> None:
    (words,) = commands(command)
    assert wrong(words)


def test_commands_are_found_in_pipes_substitutions_and_quotations() -> None:
    # A substitution without quotation marks is found twice, which does no harm.
    code = "KEY=$(a --x 1) b 'c; d' | e \\\n  --y  # f\nif g; then h \"$(i 'j\nk')\"; fi > l\ncat <<EOF\nm | n\nEOF\n"
    assert [words[0] for words in commands(code)] == ["a", "i", "a", "b", "e", "g", "h", "fi", "cat"]


def test_a_block_that_fails_fails_its_page(shell: Shell) -> None:
    page = PAGES[0]
    block = next(block for block in page.blocks if block.language == "sh")
    with pytest.raises(AssertionError, match="ended with 1"):
        shell.run(type(block)(block.page, block.line, "sh", "true\nfalse | cat\necho not reached", ()))
