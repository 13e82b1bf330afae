"""Makes what the service consists of, from its settings."""

import os
from pathlib import Path

from engines import signatures
from engines.bundle import Bundle
from engines.signatures import TrustedKeys
from service.afterwards import Afterwards
from service.bundle_source import Source
from service.context import Context
from service.disk_usage import DiskUsage
from service.drift_monitor import DriftMonitor
from service.engine_control import EngineControl
from service.engine_store import EngineStore, State
from service.errors import StartError
from service.fetching import FetchedBundles
from service.history import History
from service.inspector import Inspector
from service.ledger.database import parse_url
from service.ledger.ledger import Ledger
from service.live import Live
from service.metrics import Metrics
from service.picture_folder import PictureFolder
from service.picture_policy import PicturePolicy
from service.picture_store import PictureStore
from service.reading import ReadingThreads
from service.recent import RecentPictures
from service.recorder import Recorder
from service.security.keyring import Keyring
from service.security.quotas import Quotas
from service.security.sessions import Sessions
from service.security.verifier import Verifier
from service.settings import Settings
from service.shadow import Shadow
from service.shadow_ledger import ledger_shadow
from service.statistics import StatisticsReader
from service.telemetry import Telemetry
from service.tracing import Tracing
from service.worker import EngineOptions


def assemble(settings: Settings) -> Context:
    """Everything, not yet started.

    Raises:
        BundleError: the bundle is missing, altered or of another schema.
        KeyFileError: the file of the API keys cannot be used.
        StartError: others could reach the service and it has no key; the data folder cannot be written, there can be
            no such ledger, or the bundle cannot be fetched.
    """
    trusted = TrustedKeys.read(settings.trusted_keys) if settings.trusted_keys else None
    bundle = _configured(settings, trusted)
    options = EngineOptions(
        backend=settings.backend,
        threads=settings.threads,
        cache_dir=_writable(settings.data_dir) / "cache",
        max_batch=settings.max_batch,
        max_delay=settings.max_delay_ms / 1000,
        max_pixels=settings.max_pixels,
    )
    keyring = Keyring(settings.keys_dir or settings.data_dir)
    keyring.require_for(settings.host)
    quotas = Quotas(settings.quota_per_second) if settings.quota_per_second else None
    store = EngineStore(settings.data_dir / "engines", settings.max_bundle_bytes, trusted)
    served, state = _served(store, bundle)
    inspector = Inspector(
        served,
        options,
        meanwhile=None if settings.serve_while_building == "none" else settings.serve_while_building,
        decode_workers=settings.decode_workers,
        max_queue=settings.max_queue,
        deadline_seconds=settings.deadline_ms / 1000,
    )
    ledger = Ledger(parse_url(settings.ledger, settings.data_dir), settings.ledger_sync)
    recorder = Recorder(ledger, settings.repeat_seconds)
    metrics = Metrics(inspector, ledger)
    drift = DriftMonitor(inspector)
    ledger.on_open(drift.replay)
    shadow = Shadow(options, inspector.admission, [ledger_shadow(ledger), metrics.count_shadow])
    telemetry = Telemetry(settings.sysfs_root)
    pictures = _picture_store(settings)
    for collector in (drift, telemetry, pictures, DiskUsage(settings.data_dir)):
        metrics.registry.register(collector)
    return Context(
        inspector=inspector,
        engines=EngineControl(store, state, inspector, shadow, metrics),
        shadow=shadow,
        metrics=metrics,
        afterwards=Afterwards(),
        ledger=ledger,
        recorder=recorder,
        history=History(ledger.engine),
        statistics=StatisticsReader(ledger.engine),
        reading=ReadingThreads(),
        pictures=pictures,
        recent=RecentPictures(),
        live=Live(),
        settings=settings,
        drift=drift,
        telemetry=telemetry,
        tracing=Tracing(settings.otlp_endpoint) if settings.otlp_endpoint else None,
        keyring=keyring,
        verifier=Verifier(keyring),
        sessions=Sessions(settings.data_dir, keyring),
        quotas=quotas,
    )


def _writable(folder: Path) -> Path:
    cache_dir = folder / "cache"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"The data folder {folder} cannot be made ({error.strerror}).") from error
    if not os.access(cache_dir, os.W_OK | os.X_OK):
        raise StartError(f"The data folder {folder} cannot be written; give another with --data-dir.")
    return folder


def _configured(settings: Settings, trusted: TrustedKeys | None) -> Bundle:
    if settings.bundle_url:
        fetched = FetchedBundles(_writable(settings.data_dir) / "fetched", settings.max_bundle_bytes, trusted)
        return fetched.fetch(Source(settings.bundle_url, signed=trusted is not None))
    if settings.bundle is None:
        raise StartError("The setting bundle is missing; give --bundle or set UNISPECT_BUNDLE, or --bundle-url.")
    return signatures.load(settings.bundle, trusted)


def _served(store: EngineStore, bundle: Bundle) -> tuple[Bundle, State]:
    try:
        return store.open(bundle)
    except OSError as error:
        raise StartError(f"{store.folder} cannot be written ({error.strerror}); free some space.") from error


def _picture_store(settings: Settings) -> PictureStore:
    return PictureStore(
        PictureFolder(settings.data_dir),
        PicturePolicy.parse(settings.pictures),
        quota_bytes=settings.pictures_quota_mb * 2**20,
        keep_seconds=settings.pictures_days * 86_400,
        reserve_bytes=settings.pictures_reserve_mb * 2**20,
    )
