"""A service with trusted keys takes signed bundles alone: at its start and by upload."""

import shutil
from pathlib import Path

from engines import signatures
from tests.service.running import running_server
from tests.service.test_engines import archive, path_of, version_of
from tests.service.test_start import assert_refused, start

UPLOAD = {"Content-Type": "application/zip"}


def test_an_unsigned_bundle_is_not_served(bundle_folder: Path, tmp_path: Path, signing_key: Path) -> None:
    flags = ["--bundle", str(bundle_folder), "--data-dir", str(tmp_path / "data")]
    assert_refused(start(*flags, UNISPECT_TRUSTED_KEYS=f"{signing_key}.pub"), str(bundle_folder), "not signed")
    assert_refused(start(*flags, "--trusted-keys", str(tmp_path / "nothing")), "nothing")


def test_a_bundle_altered_after_it_was_signed_is_not_served(
    signed_bundle: Path, tmp_path: Path, signing_key: Path
) -> None:
    altered = version_of(signed_bundle, tmp_path / "altered", "1", factor=10.0)
    shutil.copy(signed_bundle / signatures.SIGNATURE, altered)
    flags = ["--bundle", str(altered), "--data-dir", str(tmp_path / "data"), "--trusted-keys", f"{signing_key}.pub"]
    assert_refused(start(*flags), "altered after it was signed")


def test_only_a_signed_upload_is_kept(signed_bundle: Path, tmp_path: Path, signing_key: Path, picture: bytes) -> None:
    with running_server(signed_bundle, tmp_path / "server", "--trusted-keys", f"{signing_key}.pub") as server:
        stored = server.client.get("/v1/engines").json()["engines"]
        second = version_of(signed_bundle, tmp_path / "second", "2")
        (second / signatures.SIGNATURE).unlink(missing_ok=True)
        refused = server.client.post("/v1/engines", content=archive(second), headers=UPLOAD)
        assert (refused.status_code, "not signed" in refused.json()["detail"]) == (422, True), refused.text
        assert server.client.post(path_of(second)).status_code == 404
        assert server.client.get("/v1/engines").json()["engines"] == stored

        signatures.sign(second, signing_key)
        assert server.client.post("/v1/engines", content=archive(second), headers=UPLOAD).status_code == 201
        assert server.client.post(path_of(second)).status_code == 200
        assert server.client.get("/v1/engine").json()["version"] == "2"
