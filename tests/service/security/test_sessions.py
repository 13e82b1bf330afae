"""People's sessions: how one begins and ends, and what it does not open."""

import re
import time
from pathlib import Path

import pytest
from fastapi import Response

from service.errors import KeyFileError
from service.security.keyring import Keyring
from service.security.keys import KeyFile
from service.security.roles import Role
from service.security.sessions import COOKIE, FILE, SECONDS, Sessions


def cookie_of(sessions: Sessions, folder: Path, scheme: str = "http") -> tuple[str, str]:
    """A session of the folder's newest key: the cookie's value, and the whole header."""
    response = Response()
    sessions.begin(response, {"scheme": scheme}, KeyFile(folder).read()[-1])
    header = response.headers["set-cookie"]
    return re.match(f"{COOKIE}=([^;]+)", header)[1], header


def asking(cookie: str) -> dict:
    return {"type": "http", "headers": [(b"cookie", f"other=1; {COOKIE}={cookie}".encode())]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    KeyFile(tmp_path).create("anna", Role.REVIEW)
    return tmp_path


@pytest.fixture
def keyring(folder: Path) -> Keyring:
    return Keyring(folder)


@pytest.fixture
def sessions(folder: Path, keyring: Keyring) -> Sessions:
    return Sessions(folder, keyring)


def test_a_session_stands_for_its_key_and_outlives_a_restart(sessions: Sessions, folder: Path) -> None:
    cookie, _ = cookie_of(sessions, folder)
    for known in (sessions, Sessions(folder, Keyring(folder))):
        key = known.key_of(asking(cookie))
        assert key is not None and (key.name, key.role) == ("anna", Role.REVIEW)


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_the_cookie_is_for_this_service_alone(sessions: Sessions, folder: Path, scheme: str, secure: bool) -> None:
    _, header = cookie_of(sessions, folder, scheme)
    attributes = {part.strip().lower() for part in header.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", f"max-age={SECONDS}"} <= attributes
    assert ("secure" in attributes) is secure
    assert not any(part.startswith("domain") for part in attributes)


def test_the_secret_is_readable_by_its_owner_alone(sessions: Sessions, folder: Path) -> None:
    cookie_of(sessions, folder)
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    assert len((folder / FILE).read_bytes()) >= 32


def test_a_secret_that_others_may_know_is_made_anew(sessions: Sessions, folder: Path, keyring: Keyring) -> None:
    cookie, _ = cookie_of(sessions, folder)
    secret = (folder / FILE).read_bytes()
    (folder / FILE).chmod(0o644)
    assert Sessions(folder, keyring).key_of(asking(cookie)) is None
    assert (folder / FILE).read_bytes() != secret
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


def test_a_cut_off_secret_is_made_anew(folder: Path, keyring: Keyring) -> None:
    (folder / FILE).write_bytes(b"short")
    (folder / FILE).chmod(0o600)
    cookie_of(Sessions(folder, keyring), folder)
    assert len((folder / FILE).read_bytes()) >= 32


def test_where_no_secret_can_be_kept_it_is_said_and_no_cookie_counts(
    sessions: Sessions, folder: Path, keyring: Keyring
) -> None:
    cookie, _ = cookie_of(sessions, folder)
    (folder / FILE).unlink()
    (folder / FILE).mkdir()
    hindered = Sessions(folder, keyring)
    with pytest.raises(KeyFileError, match=FILE):
        cookie_of(hindered, folder)
    assert hindered.key_of(asking(cookie)) is None


def test_an_altered_or_foreign_cookie_opens_nothing(
    sessions: Sessions, folder: Path, tmp_path_factory: pytest.TempPathFactory, keyring: Keyring
) -> None:
    cookie, _ = cookie_of(sessions, folder)
    foreign, _ = cookie_of(Sessions(tmp_path_factory.mktemp("elsewhere"), keyring), folder)
    payload, stamp, signature = cookie.split(".")
    altered = [
        foreign,
        f"{payload}.{stamp}.{signature[:-2]}AA",
        f"{payload[:-2]}AA.{stamp}.{signature}",
        f"{payload}.{stamp}",
        payload,
        "",
        ".",
        "x" * 5000,
        "ÿ",
    ]
    assert sessions.key_of(asking(cookie)) is not None
    for one in altered:
        assert sessions.key_of(asking(one)) is None, one
    assert sessions.key_of({"type": "http", "headers": []}) is None


def test_a_session_ends_after_twelve_hours(sessions: Sessions, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie, _ = cookie_of(sessions, folder)
    now = time.time()
    for hours, lasts in ((11.9, True), (12.1, False)):
        monkeypatch.setattr(time, "time", lambda later=now + hours * 3600: later)
        assert (sessions.key_of(asking(cookie)) is not None) is lasts


def test_a_session_ends_with_its_key(sessions: Sessions, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie, _ = cookie_of(sessions, folder)
    KeyFile(folder).revoke("anna")
    KeyFile(folder).create("anna", Role.REVIEW)
    monkeypatch.setattr("service.security.keyring._LOOK_AGAIN_SECONDS", 0.0)
    assert sessions.key_of(asking(cookie)) is None


def test_a_key_whose_id_has_another_hash_is_another_key(sessions: Sessions, folder: Path) -> None:
    cookie, _ = cookie_of(sessions, folder)
    content = (folder / "keys.json").read_text()
    hash_ = re.search(r'"hash": ?"([0-9a-f]{64})"', content)[1]
    (folder / "keys.json").write_text(content.replace(hash_, hash_[::-1]))
    assert Sessions(folder, Keyring(folder)).key_of(asking(cookie)) is None
