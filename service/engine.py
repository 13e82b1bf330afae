"""The engine that is served: opened, compiled where this GPU has no plan of it yet, and exchanged once it has."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from engines.bundle import Bundle
from engines.detector import Detector
from engines.errors import NoPlan, UnispectError
from service.compiling import Compilation
from service.health import STALLED_RATIO, STALLED_SECONDS, Health, Report, Stage

_JOIN_SECONDS = 2.0
_log = logging.getLogger(__name__)


class Engine:
    """A bundle's engine. `open`, `exchange` and `close` are called by the thread that infers; any may read the rest.

    Args:
        bundle: a verified bundle.
        backend: one of `engines.backends.BackendName`.
        meanwhile: the backend that serves while the engine is compiled; None leaves the service unready.
        threads: of the inference library; 0 means one per core.
        cache_dir: where compiled networks are kept.

    Attributes:
        detector: there once `open` has returned True.
        health: how far it is; `broken` is set by whoever runs the detector.
        name: as it is told in answers; empty until the engine is open.
        stalled_seconds: after which a call has stalled.
    """

    def __init__(self, bundle: Bundle, *, backend: str, meanwhile: str | None, threads: int, cache_dir: Path) -> None:
        self.bundle = bundle
        self.detector: Detector
        self.health = Health(Stage.STARTING)
        self.name: dict[str, str] = {}
        self.stalled_seconds = STALLED_SECONDS
        self._backend, self._meanwhile = backend, meanwhile
        self._threads, self._cache_dir = threads, cache_dir
        self._compilation = Compilation(bundle.folder, backend, cache_dir)
        self._compiling: threading.Thread | None = None
        self._created = perf_counter()

    @property
    def backend_name(self) -> str | None:
        """The inference library; None until the engine is open."""
        return self.name.get("backend")

    @property
    def elapsed(self) -> float:
        """Seconds since this object was made, which is when the service started."""
        return perf_counter() - self._created

    def open(self, compiled: Callable[[], None]) -> bool:
        """Open the engine, warm it up and prove it on the golden image. Returns whether it can be used.

        Args:
            compiled: called by another thread once `exchange` has something to take.
        """
        try:
            try:
                self._use(self._backend, self._tell)
            except NoPlan as missing:
                _log.info("The engine has to be compiled first: %s", missing)
                if self._meanwhile is None:
                    self._compilation.run(self._tell)
                    self._use(self._backend, self._tell)
                else:
                    self._use(self._meanwhile, self._tell)
                    self._compiling = threading.Thread(
                        target=self._compile, args=(compiled,), name="compile", daemon=True
                    )
                    self._compiling.start()
        except Exception as error:
            if not self._compilation.cancelled:
                _log.exception("The engine cannot be used.")
            known = isinstance(error, UnispectError)
            self._tell(Health(Stage.FAILED, str(error) if known else "The engine cannot be opened; see the log."))
            return False
        _log.info("Ready after %.2f s.", self.elapsed)
        return True

    def exchange(self) -> None:
        """Take the engine that has been compiled; where it cannot be used, stay with the one that serves."""
        slower = self.detector.backend
        try:
            self._use(self._backend, self._remark)
        except Exception as error:
            self._stay(error)
        else:
            slower.close()

    def cancel(self) -> None:
        """End a compilation, now and for good. May be called from any thread."""
        self._compilation.cancel()

    def close(self) -> None:
        """After `cancel`: give memory back, unless the device failed: such a one takes nothing back."""
        if self._compiling is not None:
            self._compiling.join(_JOIN_SECONDS)
        if self.health.live:
            self.detector.backend.close()

    def _use(self, backend: str, tell: Report) -> None:
        tell(Health(Stage.OPENING))
        detector = Detector.open(self.bundle, backend, self._threads, self._cache_dir)
        tell(Health(Stage.WARMING_UP))
        began = perf_counter()
        score = detector.check_golden()
        self.stalled_seconds = max(STALLED_SECONDS, STALLED_RATIO * (perf_counter() - began))
        manifest = self.bundle.manifest
        self.detector = detector
        self.name = {
            "name": manifest.name,
            "version": manifest.version,
            "precision": manifest.precision,
            "backend": detector.backend.name,
        }
        self._tell(Health(Stage.READY))
        _log.info(
            "Engine %s %s runs on %s, golden score %.6g.",
            manifest.name,
            manifest.version,
            detector.backend.name,
            score,
        )

    def _tell(self, health: Health) -> None:
        self.health = health

    def _remark(self, health: Health) -> None:
        """Progress beside an engine that serves already."""
        self._serve_with(f"{self.backend_name} serves meanwhile: {health.reason or health.stage}", health.fraction)

    def _serve_with(self, reason: str, fraction: float | None = None) -> None:
        # The thread that infers may find the engine broken at the same time, and that stays.
        if self.health.ready:
            self.health = Health(Stage.READY, reason, fraction)

    def _compile(self, compiled: Callable[[], None]) -> None:
        try:
            self._compilation.run(self._remark)
        except Exception as error:
            self._stay(error)
        else:
            compiled()

    def _stay(self, error: Exception) -> None:
        if not self._compilation.cancelled:
            _log.error("The engine stays on %s.", self.backend_name, exc_info=error)
            reason = str(error) if isinstance(error, UnispectError) else "see the log."
            self._serve_with(f"{self.backend_name} serves, for the engine could not be compiled: {reason}")
