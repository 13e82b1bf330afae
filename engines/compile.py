"""`python -m engines.compile BUNDLE`: compile a bundle for this device's GPU, in a process that may die at any moment.

Standard output gets one JSON object a line: `stage`, `seconds` since the start and `fraction` of the stage, null where
nobody knows; the last one, of stage `ready`, also has `plan`, `reused` and `record`. Standard error gets the compiler's
log. The exit code is 0, or 2 with one sentence as the last line of standard error.
"""

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn, get_args

from pydantic import ValidationError

from engines import bundle as bundles
from engines.backends.base import LibraryName
from engines.compile_process import BAD_INPUT, Stage
from engines.errors import CompileError, UnispectError
from engines.plan_records import PlanPrecision, Profile

if TYPE_CHECKING:
    from engines.compilation import Outcome

WORKSPACE_MEGABYTES = 1024
_HEARTBEAT_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile. Returns the exit code."""
    try:
        options = _parser().parse_args(arguments)
        os.nice(options.nice)
        _compile(options)
    except UnispectError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")
    return 0


def _compile(options: argparse.Namespace) -> None:
    try:
        from engines.compilation import Request, compile_bundle
    except ModuleNotFoundError as error:
        raise CompileError(f"{error.name} is not installed; pip install 'unispect[tensorrt]' brings it.") from error
    shown = ("INTERNAL_ERROR", "ERROR", "WARNING", *(["INFO"] if options.verbose else []))
    request = Request(
        options.backend, options.precision, _profile(options), options.workspace * 2**20, options.compute_capability
    )
    with _Reporter() as reporter:
        outcome = compile_bundle(
            bundles.load(options.bundle),
            request,
            options.cache_dir,
            reporter,
            lambda severity, message: _to_stderr(f"{severity}: {message}") if severity in shown else None,
        )
        reporter.finish(outcome)


def _profile(options: argparse.Namespace) -> Profile:
    try:
        return Profile(preferred=options.preferred_batch, largest=options.max_batch)
    except ValidationError as error:
        reason = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
        raise CompileError(
            f"No plan takes batches of 1 to {options.max_batch}, best {options.preferred_batch}: {reason}."
        ) from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CompileError(f"The arguments are wrong ({message}); {self.prog} --help lists them.")


class _Reporter:
    """Writes a line whenever something is new, and once a second for whoever wonders."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._now: tuple[Stage, float | None] = (Stage.STARTING, None)
        self._told = -1
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "_Reporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def __call__(self, stage: Stage, fraction: float | None) -> None:
        percent = -1 if fraction is None else int(100 * fraction)
        if (stage, percent) != (self._now[0], self._told):
            self._now, self._told = (stage, fraction), percent
            self._write({})

    def finish(self, outcome: "Outcome") -> None:
        """The last line."""
        self._over.set()
        self._thread.join()
        self._now = (Stage.READY, 1.0)
        record = outcome.plan.record.model_dump(mode="json")
        self._write({"plan": str(outcome.plan.path), "reused": outcome.reused, "record": record})

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_SECONDS):
            try:
                self._write({})
            except OSError:
                # Whoever wanted the plan is gone, and starts anew. What is written is whole.
                os._exit(BAD_INPUT)

    def _write(self, more: dict[str, object]) -> None:
        stage, fraction = self._now
        seconds = round(perf_counter() - self._began, 2)
        share = None if fraction is None else round(fraction, 2)
        with self._lock:
            print(json.dumps({"stage": stage, "seconds": seconds, "fraction": share, **more}), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m engines.compile", description="Compile a bundle into a plan for a GPU.")
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="Folder of the bundle.")
    add("--backend", choices=get_args(LibraryName), default="tensorrt", help="The library that compiles and runs it.")
    add("--precision", choices=get_args(PlanPrecision), help="The bundle's own when not given.")
    add("--max-batch", type=int, default=8, help="The largest batch that the plan takes.")
    add("--preferred-batch", type=int, default=1, help="The batch that it is made fastest for.")
    add("--workspace", type=_positive, default=WORKSPACE_MEGABYTES, help="Megabytes a layer may use as it runs.")
    add("--cache-dir", type=Path, help="Where plans are kept; in the bundle's folder when not given.")
    add(
        "--compute-capability",
        type=_capability,
        help="Of a GPU that is not here, as in 8.6: compile without running it.",
    )
    add("--nice", type=int, default=0, help="How much lower the process's priority shall be, up to 19.")
    add("--verbose", action="store_true", help="Log all that the compiler says.")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of megabytes")
    return int(text)


def _capability(text: str) -> str:
    if re.fullmatch(r"\d+\.\d", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no compute capability such as 8.6")
    return text


def _fail(message: str) -> int:
    _to_stderr(message)
    return BAD_INPUT


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # The compiler runs for minutes without looking at signals, and whatever it has written is whole.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())
