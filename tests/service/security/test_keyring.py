"""The keys of a running service: one hash a key and a change, no restart for a change, and never open by accident."""

import asyncio
import logging
from pathlib import Path

import pytest

from service.errors import StartError
from service.security import keyring as keyrings
from service.security.keyring import Keyring
from service.security.keys import FILE, Key, KeyFile
from service.security.roles import Role


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyrings, "_LOOK_AGAIN_SECONDS", 0.0)


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the keys whose hash was computed."""
    computed: list[str] = []
    opens_with = Key.opens_with

    def count(key: Key, secret: str) -> bool:
        computed.append(key.name)
        return opens_with(key, secret)

    monkeypatch.setattr(Key, "opens_with", count)
    return computed


def test_a_key_costs_one_hash_however_many_requests_come_with_it(tmp_path: Path, hashes: list[str]) -> None:
    key = KeyFile(tmp_path).create("line-1", Role.INSPECT)

    async def scenario() -> None:
        keyring = Keyring(tmp_path)
        assert keyring.seen(key) is None
        found = await asyncio.gather(*(keyring.look_at(key) for _ in range(50)))
        assert {one.name for one in found if one} == {"line-1"} and None not in found
        assert keyring.seen(key) == found[0]
        assert not keyring.looking_at(key)

    asyncio.run(scenario())
    assert hashes == ["line-1"]


def test_what_is_no_key_costs_no_hash_and_a_wrong_secret_opens_nothing(tmp_path: Path, hashes: list[str]) -> None:
    key = KeyFile(tmp_path).create("line-1", Role.INSPECT)
    wrong = key[:-1] + ("A" if key[-1] != "A" else "Q")

    async def scenario() -> None:
        keyring = Keyring(tmp_path)
        for junk in ("", "x", key[:-1], key + "x", key.replace(key[9:21], "0" * 12), "unispect_\xff", "a" * 100_000):
            assert await keyring.look_at(junk) is None
        assert not hashes
        assert await keyring.look_at(wrong) is None
        assert keyring.seen(wrong) is None

    asyncio.run(scenario())
    assert hashes == ["line-1"]


def test_a_revoked_key_opens_nothing_and_a_new_one_does_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = KeyFile(tmp_path)
    old, other = file.create("old", Role.INSPECT), file.create("other", Role.REVIEW)

    async def scenario() -> None:
        keyring = Keyring(tmp_path)
        assert await keyring.look_at(old) and await keyring.look_at(other)
        file.revoke("old")
        new = file.create("new", Role.ADMIN)
        assert keyring.needed
        assert keyring.seen(old) is None and await keyring.look_at(old) is None
        assert keyring.seen(other) is not None
        assert (await keyring.look_at(new)).role is Role.ADMIN

    assert not logging.getLogger().isEnabledFor(logging.INFO)
    asyncio.run(scenario())
    said = [(record.message, record.fields["name"]) for record in caplog.records if record.name == "service.audit"]
    assert said == [("A key was revoked.", "old"), ("A key was made.", "new")]


def test_a_key_revoked_while_its_hash_is_computed_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KeyFile(tmp_path)
    key = file.create("line-1", Role.INSPECT)

    async def scenario() -> None:
        keyring = Keyring(tmp_path)

        def revoke_meanwhile(_: Key, __: str) -> bool:
            file.revoke("line-1")
            keyring._look()
            return True

        monkeypatch.setattr(Key, "opens_with", revoke_meanwhile)
        assert await keyring.look_at(key) is None

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", ["gone", "empty", "broken", "writable by others"])
def test_a_file_that_is_damaged_later_opens_nothing_and_closes_nothing(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = KeyFile(tmp_path).create("line-1", Role.INSPECT)
    path = tmp_path / FILE

    async def scenario() -> None:
        keyring = Keyring(tmp_path)
        await keyring.look_at(key)
        match damage:
            case "gone":
                path.unlink()
            case "empty":
                path.write_text('{"keys": []}')
            case "broken":
                path.write_text("{")
            case _:
                path.chmod(0o666)
        assert keyring.needed
        assert keyring.seen(key) is not None

    asyncio.run(scenario())
    assert [record for record in caplog.records if record.levelno == logging.ERROR and FILE in record.message]


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("", False),
        ("192.168.1.5", False),
        ("line-pc", False),
        ("localhost.example.com", False),
    ],
)
def test_without_keys_a_service_that_others_can_reach_does_not_start(tmp_path: Path, host: str, alone: bool) -> None:
    def starts() -> bool:
        try:
            Keyring(tmp_path).require_for(host)
        except StartError as error:
            assert "keys create" in str(error)
            return False
        return True

    assert starts() == alone
    KeyFile(tmp_path).create("line-1", Role.INSPECT)
    assert starts()
    KeyFile(tmp_path).revoke("line-1")
    assert starts() == alone
    assert Keyring(tmp_path).needed
