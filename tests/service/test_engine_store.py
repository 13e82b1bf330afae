"""Engines on the disk: looked at without reading their networks, and deleted whatever has become of them."""

import shutil
from pathlib import Path

import pytest

from engines import bundle as bundles
from engines import signatures
from engines.bundle import Bundle
from engines.errors import BundleError
from engines.signatures import SIGNATURE, TrustedKeys
from service.engine_store import EngineId, EngineStore
from service.errors import UnknownEngine
from tests.service.test_engines import version_of

LARGEST = 10**9


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return bundles.load(bundle_folder)


@pytest.fixture
def store(bundle: Bundle, tmp_path: Path) -> EngineStore:
    """A store that has the bundle."""
    store = EngineStore(tmp_path / "engines", LARGEST)
    store.open(bundle)
    return store


def folder_of(store: EngineStore, engine: EngineId) -> Path:
    return store.folder / engine.name / engine.version


def test_an_engine_is_looked_at_without_its_network(store: EngineStore, bundle: Bundle) -> None:
    engine = EngineId.of(bundle)
    (folder_of(store, engine) / bundles.MODEL).unlink()
    (seen,) = store.look()
    assert (seen.id, seen.manifest, seen.problem) == (engine, bundle.manifest, None)
    assert (seen.signer, seen.trusted) == (None, None)
    with pytest.raises(BundleError, match="is missing"):
        store.load(engine)


def test_what_is_seen_is_what_is_there_now(store: EngineStore, bundle: Bundle, tmp_path: Path) -> None:
    engine = EngineId.of(bundle)
    assert store.look_at(engine).problem is None
    manifest = folder_of(store, engine) / bundles.MANIFEST
    manifest.write_text(manifest.read_text().replace(bundle.manifest.method, "otherwise"))
    seen = store.look_at(engine)
    assert seen.manifest is None
    assert "was altered after it was built" in str(seen.problem)
    store.remove(engine)
    assert store.look() == []
    with pytest.raises(UnknownEngine):
        store.look_at(engine)
    store.open(bundles.load(version_of(bundle.folder, tmp_path / "two", "two", 2.0)))
    assert [str(one.id) for one in store.look()] == [f"{bundle.manifest.name} two"]


@pytest.mark.parametrize("name", [bundles.MODEL, bundles.MANIFEST])
def test_an_altered_engine_can_be_deleted(store: EngineStore, bundle: Bundle, name: str) -> None:
    engine = EngineId.of(bundle)
    (folder_of(store, engine) / name).write_bytes(b"something else")
    with pytest.raises(BundleError):
        store.load(engine)
    store.remove(engine)
    assert store.engines() == []
    assert not folder_of(store, engine).exists()
    with pytest.raises(UnknownEngine):
        store.remove(engine)


def test_deleting_reads_no_network(store: EngineStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(bundles, "sha256_of", read)
    store.remove(EngineId.of(bundle))
    assert store.engines() == []


def test_an_engine_deleted_by_half_is_none_and_may_come_again(
    store: EngineStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_: Path) -> None:
        raise OSError("the power is gone")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="power"):
        patched.setattr(shutil, "rmtree", cut_off)
        store.remove(EngineId.of(bundle))
    assert store.engines() == []
    store.open(bundle)
    assert store.load(EngineId.of(bundle)).manifest == bundle.manifest


def test_it_is_told_who_signed_and_whether_he_is_trusted(
    bundle: Bundle, signed_bundle: Path, signing_key: Path, tmp_path: Path
) -> None:
    signer = signatures.signer(signed_bundle)
    assert signer
    anybody = EngineStore(tmp_path / "engines", LARGEST)
    anybody.open(bundles.load(signed_bundle))
    engine = EngineId.of(bundle)
    seen = anybody.look_at(engine)
    assert (seen.signer, seen.trusted, seen.problem) == (signer, None, None)

    strict = EngineStore(anybody.folder, LARGEST, TrustedKeys.read(Path(f"{signing_key}.pub")))
    seen = strict.look_at(engine)
    assert (seen.signer, seen.trusted, seen.problem) == (signer, True, None)

    signature = folder_of(strict, engine) / SIGNATURE
    signature.write_text("nonsense")
    assert anybody.look_at(engine).problem is None
    seen = strict.look_at(engine)
    assert (seen.signer, seen.trusted) == (None, False)
    assert "is no signature" in str(seen.problem)
    signature.unlink()
    assert "is not signed" in str(strict.look_at(engine).problem)
