"""Engines on this machine's disk, by name and version, and which of them serves: it survives restarts."""

import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, ValidationError

from engines import bundle as bundles
from engines import signatures
from engines.bundle import Bundle, Manifest, PartClassName
from engines.errors import BundleError, SignatureError
from engines.files import folder_atomic, write_atomic
from engines.signatures import SIGNATURE, TrustedKeys
from service.archives import unpack
from service.errors import EngineExists, UnknownEngine

_STATE = "state.json"
_MOST_HISTORY = 20
# Of a signer's fingerprint, which the bundle itself may make as long as it likes.
_SIGNER_LETTERS = 32
_Stamp = tuple[tuple[int, int, int] | None, ...]
_log = logging.getLogger(__name__)


class EngineId(BaseModel):
    """What an engine is known by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PartClassName
    version: PartClassName

    @classmethod
    def of(cls, bundle: Bundle) -> "EngineId":
        """Of a bundle."""
        return cls(name=bundle.manifest.name, version=bundle.manifest.version)

    @classmethod
    def parse(cls, name: str, version: str) -> "EngineId":
        """From a path. Raises UnknownEngine where no engine can have such a name."""
        try:
            return cls(name=name, version=version)
        except ValidationError as error:
            raise UnknownEngine(f"No engine is called {name[:64]!r}, version {version[:64]!r}.") from error

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class State(BaseModel):
    """What serves, kept over restarts.

    Attributes:
        configured: digest of the bundle that the service was started with when an engine was last activated; started
            with another, the service serves that one.
        active: serves.
        history: what served before, the newest last.
        shadow: sees the same images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    configured: str
    active: EngineId
    history: tuple[EngineId, ...] = ()
    shadow: EngineId | None = None


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """What is known of an engine without reading its network.

    Attributes:
        manifest: None where it cannot be read.
        signer: fingerprint of the key that it names as its signer; None where it is not signed.
        trusted: whether that key is one of those that the service trusts; None where it trusts none in particular.
        problem: why it cannot be used, as far as manifest and signature tell.
    """

    id: EngineId
    manifest: Manifest | None
    signer: str | None
    trusted: bool | None
    problem: str | None


class EngineStore:
    """A folder of bundles. Its methods read and write files: call them in a thread.

    Args:
        folder: made when it is first written to.
        max_bytes: of one bundle.
        trusted: whose signatures count; None takes bundles unsigned.
    """

    def __init__(self, folder: Path, max_bytes: int, trusted: TrustedKeys | None = None) -> None:
        self.folder = folder
        self._max_bytes, self._trusted = max_bytes, trusted
        self._seen: dict[EngineId, tuple[_Stamp, StoredEngine]] = {}

    def open(self, configured: Bundle) -> tuple[Bundle, State]:
        """Keep the bundle that the service is started with, and tell which one serves: what was activated last, unless
        the service is started with another bundle than it was then.

        Raises OSError where the folder cannot be written.
        """
        own = self._adopt(configured)
        state = self._read_state()
        fresh = State(configured=configured.manifest.digest, active=EngineId.of(own))
        if state is None or state.configured != fresh.configured:
            return own, fresh
        if state.active == fresh.active:
            return own, state
        try:
            return self.load(state.active), state
        except (UnknownEngine, BundleError) as error:
            _log.error("The engine %s cannot be used, and the configured one serves: %s", state.active, error)
            return own, fresh

    def engines(self) -> list[EngineId]:
        """All that are kept, in the order of their names and versions."""
        found = []
        for manifest in sorted(self.folder.glob(f"*/*/{bundles.MANIFEST}")):
            name, version = manifest.parent.parent.name, manifest.parent.name
            if bundles.is_name(name) and bundles.is_name(version):
                found.append(EngineId(name=name, version=version))
        return found

    def load(self, engine: EngineId) -> Bundle:
        """A verified bundle. Raises UnknownEngine, or BundleError where it was altered on the disk."""
        return self._load(self._known(engine))

    def look_at(self, engine: EngineId) -> StoredEngine:
        """What its manifest and its signature say. Raises UnknownEngine."""
        folder = self._known(engine)
        stamp = tuple(_stamp_of(folder / name) for name in (bundles.MANIFEST, SIGNATURE))
        if (known := self._seen.get(engine)) is not None and known[0] == stamp:
            return known[1]
        seen = self._read(engine, folder)
        self._seen[engine] = stamp, seen
        return seen

    def look(self) -> list[StoredEngine]:
        """All that are kept, in the order of their names and versions."""
        kept = self.engines()
        for gone in self._seen.keys() - set(kept):
            self._seen.pop(gone, None)
        seen = []
        for engine in kept:
            # Somebody may delete it meanwhile.
            with suppress(UnknownEngine):
                seen.append(self.look_at(engine))
        return seen

    def add(self, archive: Path) -> tuple[Bundle, bool]:
        """Unpack, verify and keep an uploaded bundle.

        Returns the bundle, and whether it is new; the same one may come again.

        Raises:
            InvalidArchive, BundleError: it is no bundle.
            EngineExists: another bundle has its name and version.
            OSError: the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.folder, prefix=".upload.") as name:
            scratch = Path(name)
            unpack(archive, scratch, self._max_bytes)
            bundle = self._load(scratch)
            engine, target = EngineId.of(bundle), self._folder(EngineId.of(bundle))
            if (target / bundles.MANIFEST).is_file():
                kept = self._load(target)
                if kept.manifest.digest != bundle.manifest.digest:
                    raise EngineExists(f"Another bundle is kept as {engine}; build this one with another --version.")
                return kept, False
            with folder_atomic(target) as final:
                for file in scratch.iterdir():
                    file.replace(final / file.name)
        return self._load(target), True

    def remove(self, engine: EngineId) -> None:
        """Delete an engine, whatever has become of it. Raises UnknownEngine, or OSError where it stays."""
        folder = self._known(engine)
        # Without its manifest it is no engine any more: one that is deleted by half is not found.
        (folder / bundles.MANIFEST).unlink()
        shutil.rmtree(folder)

    def save(self, state: State) -> None:
        """Keep what serves. Raises OSError."""
        kept = state.model_copy(update={"history": state.history[-_MOST_HISTORY:]})
        write_atomic(self.folder / _STATE, (kept.model_dump_json(indent=1) + "\n").encode())

    def _load(self, folder: Path) -> Bundle:
        return signatures.load(folder, self._trusted)

    def _known(self, engine: EngineId) -> Path:
        folder = self._folder(engine)
        if not (folder / bundles.MANIFEST).is_file():
            known = ", ".join(map(str, self.engines())) or "none"
            raise UnknownEngine(f"There is no engine {engine}; there are: {known}.")
        return folder

    def _read(self, engine: EngineId, folder: Path) -> StoredEngine:
        manifest, signer, problem = None, None, None
        with suppress(SignatureError):
            signer = signatures.signer(folder)
        trusted = None if self._trusted is None else False
        try:
            manifest = bundles.read_manifest(folder)
            if self._trusted is not None:
                self._trusted.verify(folder)
                trusted = True
        except BundleError as error:
            problem = str(error)
        return StoredEngine(engine, manifest, signer and signer[:_SIGNER_LETTERS], trusted, problem)

    def _adopt(self, bundle: Bundle) -> Bundle:
        target = self._folder(EngineId.of(bundle))
        try:
            kept = self._load(target)
            if kept.manifest.digest == bundle.manifest.digest:
                return kept
        except BundleError:
            pass
        with folder_atomic(target) as scratch:
            for name in (bundles.MANIFEST, SIGNATURE, *bundle.manifest.files):
                if (bundle.folder / name).is_file():
                    shutil.copyfile(bundle.folder / name, scratch / name)
        return self._load(target)

    def _folder(self, engine: EngineId) -> Path:
        return self.folder / engine.name / engine.version

    def _read_state(self) -> State | None:
        try:
            return State.model_validate_json((self.folder / _STATE).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _log.error("%s cannot be read, and the configured engine serves: %s", self.folder / _STATE, error)
            return None


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Changes with the file; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
