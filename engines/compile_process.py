"""Compile in a process of its own, and follow it: the compiler can then be killed, and its memory goes with it."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from engines.errors import CompileError
from engines.plan_records import PlanRecord

BAD_INPUT = 2
COMMAND = (sys.executable, "-m", "engines.compile")


class Stage(StrEnum):
    """What a compilation is doing."""

    STARTING = "starting"
    WAITING = "waiting"
    CONVERTING = "converting"
    COMPILING = "compiling"
    CHECKING = "checking"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a compilation is.

    Attributes:
        seconds: since it began.
        fraction: of the stage, in [0, 1]; None where nobody knows.
    """

    stage: Stage
    seconds: float
    fraction: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """The plan, what is known of it, and whether it was there already."""

    plan: Path
    record: PlanRecord
    reused: bool


class CompileProcess:
    """A running `python -m engines.compile`. `kill` may be called from any thread.

    Args:
        bundle: its folder.
        arguments: as of the command.
        log: gets each line that the compiler logs, on a thread of its own.
    """

    def __init__(self, bundle: Path, arguments: Sequence[str], log: Callable[[str], None]) -> None:
        command = [*COMMAND, str(bundle), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
        self._log = log
        self._last_words = ""

    def follow(self, report: Callable[[Progress], None]) -> Result:
        """Wait for the end, and kill it where `report` raises.

        Raises CompileError where it fails or is killed.
        """
        output, errors = self._process.stdout, self._process.stderr
        assert output is not None and errors is not None  # noqa: S101
        logging = threading.Thread(target=self._drain, args=(errors,), daemon=True)
        logging.start()
        last: dict[str, object] = {}
        try:
            for line in output:
                last = json.loads(line)
                report(Progress(Stage(str(last["stage"])), float(str(last["seconds"])), _fraction(last["fraction"])))
        except BaseException:
            self.kill()
            raise
        finally:
            code = self._process.wait()
            logging.join()
        if code == BAD_INPUT:
            raise CompileError(self._last_words)
        if self._last_words:
            self._log(self._last_words)
        if code < 0:
            name = signal.Signals(-code).name
            raise CompileError(f"The compiler was killed ({name}) and has left nothing half-written; compile again.")
        if code or "record" not in last:
            raise CompileError(f"The compiler ended with exit code {code} ({self._last_words}); see its log.")
        return Result(Path(str(last["plan"])), PlanRecord.model_validate(last["record"]), bool(last["reused"]))

    def kill(self) -> None:
        """End it at once; nothing is left half-written."""
        self._process.kill()

    def _drain(self, errors: IO[str]) -> None:
        waiting = ""
        for line in errors:
            # The last line may be the sentence that `follow` raises.
            if waiting:
                self._log(waiting)
            waiting = line.rstrip("\n")
        self._last_words = waiting


def _fraction(value: object) -> float | None:
    return value if isinstance(value, float) else None
