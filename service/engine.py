"""A bundle's engine on this machine: opened, warmed up, proven, and compiled first where this GPU has no plan of it."""

import logging
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from engines.bundle import Bundle
from engines.detector import Detector
from engines.errors import NoPlan
from service.compiling import Compilation
from service.health import STALLED_RATIO, STALLED_SECONDS, Health, Report, Stage

_log = logging.getLogger(__name__)


class Engine:
    """`open` and `close` are called by the thread that infers, `cancel` by any.

    Args:
        bundle: a verified bundle.
        backend: one of `engines.backends.BackendName`.
        threads: of the inference library; 0 means one per core.
        cache_dir: where compiled networks are kept.

    Attributes:
        detector: there once it is open.
        name: as it is told in answers; its backend is missing until the engine is open.
        stalled_seconds: after which a call has stalled.
    """

    def __init__(self, bundle: Bundle, *, backend: str, threads: int, cache_dir: Path) -> None:
        self.bundle = bundle
        self.detector: Detector
        manifest = bundle.manifest
        self.name = {"name": manifest.name, "version": manifest.version, "precision": manifest.precision}
        self.stalled_seconds = STALLED_SECONDS
        self._arguments = (bundle, backend, threads, cache_dir)
        self._compilation = Compilation(bundle.folder, backend, cache_dir)

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._compilation.cancelled

    @property
    def build_log(self) -> tuple[str, ...]:
        """The latest lines of the compiler, where one was needed; the newest last."""
        return self._compilation.tail

    def open(self, tell: Report, compiling: Callable[[], None]) -> None:
        """Make the engine ready.

        Args:
            tell: gets each stage as it begins.
            compiling: called before minutes of compiling.

        Raises:
            BackendError, TilingError: the engine cannot be opened.
            CompileError: it cannot be compiled, or `cancel` was called.
            ScoringError: it computes something else than when it was built.
        """
        tell(Health(Stage.OPENING))
        try:
            detector = Detector.open(*self._arguments)
        except NoPlan as missing:
            _log.info("The engine has to be compiled first: %s", missing)
            compiling()
            self._compilation.run(tell)
            tell(Health(Stage.OPENING))
            detector = Detector.open(*self._arguments)
        tell(Health(Stage.WARMING_UP))
        began = perf_counter()
        score = detector.check_golden()
        self.stalled_seconds = max(STALLED_SECONDS, STALLED_RATIO * (perf_counter() - began))
        self.detector = detector
        self.name = {**self.name, "backend": detector.backend.name}
        _log.info("Engine %(name)s %(version)s (%(precision)s) runs on %(backend)s.", self.name)
        _log.debug("Its golden image scores %.6g.", score)

    def cancel(self) -> None:
        """End a compilation, now and for good."""
        self._compilation.cancel()

    def close(self) -> None:
        """Give memory back; the engine must not be used any more."""
        self.detector.backend.close()
