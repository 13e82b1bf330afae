"""Has the engine compiled for this machine's GPU, in a process of low priority, and says how far it is."""

import logging
import threading
from collections import deque
from pathlib import Path

from engines.backends import choose
from engines.compile_process import CompileProcess, Progress
from engines.compile_process import Stage as Step
from engines.errors import CompileError
from service.health import Health, Report, Stage

_NICENESS = 10
_LOG_SECONDS = 30.0
_TAIL_LINES, _LINE_LETTERS = 20, 300
_log = logging.getLogger(__name__)


class Compilation:
    """One compilation of a bundle, at most, whose log is in this process's log.

    Args:
        bundle: its folder.
        backend: one of `engines.backends.BackendName`, whose library compiles.
        cache_dir: where the plan is kept.
    """

    def __init__(self, bundle: Path, backend: str, cache_dir: Path) -> None:
        self._bundle, self._backend, self._cache_dir = bundle, backend, cache_dir
        self._process: CompileProcess | None = None
        self._lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.cancelled = False

    @property
    def tail(self) -> tuple[str, ...]:
        """The latest lines that the compiler logged, the newest last."""
        with self._lock:
            return tuple(self._tail)

    def run(self, report: Report) -> None:
        """Compile, and wait for it.

        Args:
            report: gets how far it is, about once a second.

        Raises CompileError where it fails, or is cancelled.
        """
        library = choose() if self._backend == "auto" else self._backend
        arguments = ["--backend", library, "--cache-dir", str(self._cache_dir), "--nice", str(_NICENESS), "--verbose"]
        with self._lock:
            if self.cancelled:
                raise CompileError("The service stops; the engine is compiled at its next start.")
            self._process = CompileProcess(self._bundle, arguments, self._note)
        result = self._process.follow(_Reporter(report))
        _log.info("Compiled %s in %.0f s.", result.plan, result.record.seconds)

    def cancel(self) -> None:
        """End it, now and for good; nothing is left half-written. May be called from any thread."""
        with self._lock:
            self.cancelled = True
            if self._process is not None:
                self._process.kill()

    def _note(self, line: str) -> None:
        _log.info(line)
        with self._lock:
            self._tail.append(line[:_LINE_LETTERS])


class _Reporter:
    """Turns the compiler's progress into the service's health, and now and then into a line of the log."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._step: Step | None = None
        self._logged = 0.0

    def __call__(self, progress: Progress) -> None:
        share = "" if progress.fraction is None else f", {progress.fraction:.0%}"
        sentence = f"The engine is compiled for this GPU, for {progress.seconds:.0f} s now ({progress.stage}{share})."
        if progress.stage is not self._step or progress.seconds - self._logged >= _LOG_SECONDS:
            self._step, self._logged = progress.stage, progress.seconds
            _log.info(sentence)
        self._report(Health(Stage.COMPILING, sentence, progress.fraction))
