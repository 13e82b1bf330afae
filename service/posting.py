"""`inspection-service post`: sends images to a running service, a few at a time, and prints what it says of each."""

import argparse
import json
import os
import ssl
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engines.errors import UnispectError
from service.answers import InspectionAnswer
from service.client import Client
from service.client_calls import ClientError, Refused
from service.problems import Problem
from service.settings import PROGRAM

_KEY_VARIABLE = "UNISPECT_KEY"
_LONGEST_PART_ID = 128
_REFUSED = "refused"
# Of the connection, the key or the parameters: another file would be refused as well.
_OF_ALL = frozenset({400, 401, 403, 404})


@dataclass(frozen=True, slots=True)
class _Outcome:
    """`answer` is what was found, or why the image was refused; `seconds` as the client sees it."""

    file: Path
    answer: InspectionAnswer | Problem
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Post the files. Returns 0 where all are inspected, 1 where some are refused, 2 with a sentence where none can be.

    What was interrupted may be called again: a file's name is its part's id, and a part's image is inspected once.
    """
    options = _parser().parse_args(arguments)
    try:
        for file in options.files:
            if not os.access(file, os.R_OK) or not file.is_file():
                raise ClientError(f"The file {file} cannot be read; give files of images.")
        key = options.key_file.read_text().strip() if options.key_file else os.environ.get(_KEY_VARIABLE)
        with Client(options.url, key=key, verify=_tls(options), connections=options.at_once) as client:
            return _post_all(client, options)
    except (UnispectError, OSError) as error:
        print(f"{PROGRAM} post: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} post",
        description="Send images to a running service; one line for each on standard output.",
        epilog=f"An API key is taken from the variable {_KEY_VARIABLE}, or from a file.",
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="image to inspect; its name is the part's id"
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the service (default: %(default)s)")
    parser.add_argument("--part-class", metavar="NAME", help="class of all the parts; recognised when left out")
    parser.add_argument("--station", metavar="NAME", help="where the images were taken")
    parser.add_argument(
        "--at-once", type=_count, default=4, metavar="N", help="requests at a time (default: %(default)s)"
    )
    parser.add_argument("--anonymous", action="store_true", help="give no part's id: each image is inspected anew")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="file with the API key")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM file of the certificates to trust")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="PEM file of the client's certificate and key")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 64:
        raise argparse.ArgumentTypeError("it takes a number from 1 to 64")
    return count


def _tls(options: argparse.Namespace) -> ssl.SSLContext | bool:
    if options.ca is None and options.certificate is None:
        return True
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate)
    except OSError as error:
        files = " and ".join(str(file) for file in (options.ca, options.certificate) if file)
        raise ClientError(f"The certificates in {files} cannot be used ({error}); give PEM files.") from error
    return context


def _post_all(client: Client, options: argparse.Namespace) -> int:
    began = perf_counter()
    seconds: list[float] = []
    words: Counter[str] = Counter()
    on_terminal = sys.stdout.isatty()
    console = Console(stderr=not on_terminal)
    columns = (TextColumn("Posting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
    with (
        Progress(
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            redirect_stdout=on_terminal,
            disable=not console.is_terminal,
        ) as progress,
        ThreadPoolExecutor(options.at_once, "post") as pool,
    ):
        task = progress.add_task("", total=len(options.files), said="")
        waiting = [pool.submit(_post, client, file, options) for file in options.files]
        try:
            for future in waiting:
                outcome = future.result()
                seconds.append(outcome.seconds)
                words[_word(outcome.answer)] += 1
                print(_line(outcome, options.json))
                progress.update(task, advance=1, said=_counts(words))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    took, middle = perf_counter() - began, statistics.median(seconds) * 1000
    said = f"{len(seconds)} images in {took:.1f} s: {_counts(words)}; median {middle:.1f} ms."
    console.print(said, highlight=False)
    return 1 if words[_REFUSED] else 0


def _post(client: Client, file: Path, options: argparse.Namespace) -> _Outcome:
    data = file.read_bytes()
    part_id = None if options.anonymous else "".join(filter(str.isprintable, file.name))[-_LONGEST_PART_ID:]
    began = perf_counter()
    answer: InspectionAnswer | Problem
    try:
        answer = client.inspect(data, part_class=options.part_class, station=options.station, part_id=part_id)
    except Refused as error:
        if error.problem.status in _OF_ALL:
            raise
        answer = error.problem
    return _Outcome(file, answer, perf_counter() - began)


def _word(answer: InspectionAnswer | Problem) -> str:
    return _REFUSED if isinstance(answer, Problem) else answer.verdict


def _counts(verdicts: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(verdicts.items()))


def _line(outcome: _Outcome, as_json: bool) -> str:
    answer = outcome.answer
    if as_json:
        kind = "problem" if isinstance(answer, Problem) else "inspection"
        return json.dumps({"file": str(outcome.file), kind: answer.model_dump(mode="json")})
    if isinstance(answer, Problem):
        return f"{_REFUSED:8} {outcome.file}  {answer.detail}"
    ratio = f"{answer.score:.6g} of {answer.threshold:.6g}"
    return f"{answer.verdict:8} {outcome.file}  {answer.part_class}  {ratio}"
