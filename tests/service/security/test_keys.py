"""The file of the API keys: what is in it, who may see it, and that nobody's change is lost."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import KeyFileError
from service.security.keys import FILE, KeyFile, split
from service.security.keys_command import main
from service.security.roles import Role


def test_a_key_opens_with_its_own_secret_alone(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    first, second = file.create("first", Role.INSPECT), file.create("second", Role.ADMIN)
    opened = {key.name: [key.opens_with(split(made)[1]) for made in (first, second)] for key in file.read()}
    assert opened == {"first": [True, False], "second": [False, True]}
    assert [(key.name, key.role) for key in file.read()] == [("first", Role.INSPECT), ("second", Role.ADMIN)]


def test_the_file_tells_no_secret_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    made = KeyFile(tmp_path).create("line-1", Role.INSPECT)
    path = tmp_path / FILE
    assert split(made)[1] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_secret_never_has_the_same_hash(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    for number in range(3):
        file.create(f"line-{number}", Role.INSPECT)
    keys = file.read()
    assert len({key.salt for key in keys}) == len({key.hash for key in keys}) == len({key.id for key in keys}) == 3


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: KeyFile(tmp_path).create(f"line-{number}", Role.INSPECT), range(8)))
    assert {key.name for key in KeyFile(tmp_path).read()} == {f"line-{number}" for number in range(8)}


def test_a_revoked_key_stays_listed_and_frees_its_name(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.create("line-1", Role.INSPECT)
    with pytest.raises(KeyFileError, match=r"line-1 already"):
        file.create("line-1", Role.ADMIN)
    file.revoke("line-1")
    with pytest.raises(KeyFileError, match="in use: none"):
        file.revoke("line-1")
    file.create("line-1", Role.ADMIN)
    old, new = file.read()
    assert old.revoked is not None and new.revoked is None


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 65, "-a", "ä", "a\n"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyFileError):
        KeyFile(tmp_path).create(name, Role.INSPECT)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema_version": 2, "keys": []}', '{"keys": [{}]}', '{"keys": [], "more": 1}']
)
def test_a_damaged_file_is_refused_in_one_sentence_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    (tmp_path / FILE).chmod(0o600)
    for act in (KeyFile(tmp_path).read, lambda: KeyFile(tmp_path).create("line-1", Role.INSPECT)):
        with pytest.raises(KeyFileError, match=FILE) as caught:
            act()
        assert "\n" not in str(caught.value)
    assert (tmp_path / FILE).read_text() == text


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    KeyFile(tmp_path).create("line-1", Role.INSPECT)
    (tmp_path / FILE).chmod(0o620)
    with pytest.raises(KeyFileError, match="chmod 600"):
        KeyFile(tmp_path).read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    KeyFile(tmp_path).create("line-1", Role.INSPECT)
    for path in tmp_path.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346), path


def test_the_command_prints_the_key_alone_and_lists_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNISPECT_DATA_DIR", str(tmp_path))
    assert main(["create", "line-1", "--role", "inspect"]) == 0
    made = capsys.readouterr().out
    assert made.endswith("\n") and split(made.strip())
    assert main(["revoke", "line-1"]) == 0
    capsys.readouterr()
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "line-1" in listed and "revoked" in listed
    assert split(made.strip())[1] not in listed
    assert main(["revoke", "line-1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("inspection-service: ") and said.count("\n") == 1
    assert json.loads((tmp_path / FILE).read_text())["schema_version"] == 1
