"""Signed bundles: whole and by a trusted key, or refused with one sentence."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from build_engines import cli
from engines import bundle as bundles
from engines import signatures
from engines.errors import BundleError, SignatureError
from engines.signatures import SIGNATURE, TrustedKeys


def trust(*keys: Path) -> TrustedKeys:
    file = keys[0].with_name("trusted.pem")
    file.write_bytes(b"# whose bundles we take\n" + b"\n".join(Path(f"{key}.pub").read_bytes() for key in keys))
    return TrustedKeys.read(file)


def test_a_signed_bundle_loads(signed_bundle: Path, signing_key: Path) -> None:
    assert signatures.load(signed_bundle, trust(signing_key)).manifest == bundles.load(signed_bundle).manifest


def test_without_trusted_keys_signatures_do_not_matter(bundle_folder: Path, signed_bundle: Path) -> None:
    (signed_bundle / SIGNATURE).write_text("nonsense")
    for folder in (bundle_folder, signed_bundle):
        assert signatures.load(folder, None).folder == folder


def test_a_bundle_names_its_signer(bundle_folder: Path, signed_bundle: Path, signing_key: Path) -> None:
    assert signatures.signer(bundle_folder) is None
    assert signatures.signer(signed_bundle) == signatures.sign(signed_bundle, signing_key)
    (signed_bundle / SIGNATURE).write_text("nonsense")
    with pytest.raises(SignatureError, match="is no signature"):
        signatures.signer(signed_bundle)


def test_any_of_several_trusted_keys_will_do(signed_bundle: Path, signing_key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    signatures.generate(other)
    assert signatures.load(signed_bundle, trust(other, signing_key))
    with pytest.raises(SignatureError, match="trusted are"):
        signatures.load(signed_bundle, trust(other))


def test_an_unsigned_bundle_is_refused(bundle_folder: Path, signing_key: Path) -> None:
    with pytest.raises(SignatureError, match="not signed"):
        signatures.load(bundle_folder, trust(signing_key))


def test_a_bundle_that_was_sealed_again_after_a_change_is_refused(signed_bundle: Path, signing_key: Path) -> None:
    manifest = bundles.load(signed_bundle).manifest
    part = manifest.part_classes[0]
    eased = part.model_copy(update={"threshold": part.threshold * 10})
    bundles.save_manifest(
        signed_bundle, manifest.model_copy(update={"part_classes": [eased, *manifest.part_classes[1:]]})
    )
    assert bundles.load(signed_bundle).manifest.part_classes[0].threshold == part.threshold * 10
    with pytest.raises(SignatureError, match="altered after it was signed"):
        signatures.load(signed_bundle, trust(signing_key))


@pytest.mark.parametrize("name", [bundles.MODEL, bundles.GOLDEN])
def test_an_exchanged_file_is_refused(signed_bundle: Path, signing_key: Path, name: str) -> None:
    (signed_bundle / name).write_bytes((signed_bundle / name).read_bytes() + b"\0")
    with pytest.raises(BundleError, match="altered"):
        signatures.load(signed_bundle, trust(signing_key))


def test_a_signature_of_another_bundle_is_refused(
    signed_bundle: Path, float_bundle_folder: Path, signing_key: Path
) -> None:
    other = Path(shutil.copytree(float_bundle_folder, signed_bundle.with_name("other")))
    shutil.copy(signed_bundle / SIGNATURE, other / SIGNATURE)
    with pytest.raises(SignatureError, match="altered after it was signed"):
        signatures.load(other, trust(signing_key))


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: "[]",
        lambda text: text[:-20],
        lambda text: json.dumps({**json.loads(text), "algorithm": "none"}),
        lambda text: json.dumps({**json.loads(text), "signature": ""}),
        lambda text: json.dumps({**json.loads(text), "signature": "AAAA"}),
        lambda text: json.dumps({**json.loads(text), "signature": "***"}),
        lambda text: json.dumps({**json.loads(text), "key": "0" * 16}),
        lambda text: json.dumps({**json.loads(text), "more": 1}),
        lambda text: text + " " * 10**6 + "}",
    ],
)
def test_a_damaged_signature_is_refused_in_one_sentence(signed_bundle: Path, signing_key: Path, change) -> None:
    file = signed_bundle / SIGNATURE
    file.write_text(change(file.read_text()))
    with pytest.raises(SignatureError) as caught:
        signatures.load(signed_bundle, trust(signing_key))
    assert "\n" not in str(caught.value)


def test_keys_are_kept_from_others_and_never_overwritten(signing_key: Path) -> None:
    assert stat.S_IMODE(signing_key.stat().st_mode) == 0o600
    before = signing_key.read_bytes()
    with pytest.raises(SignatureError, match="not overwritten"):
        signatures.generate(signing_key)
    assert signing_key.read_bytes() == before


def test_what_is_no_key_is_named(signed_bundle: Path, signing_key: Path, tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1())
    private, public = tmp_path / "ec", tmp_path / "ec.pub"
    private.write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        other.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "text").write_text("no key")
    for path in (private, tmp_path / "text", tmp_path / "nothing", Path(f"{signing_key}.pub")):
        with pytest.raises(SignatureError, match=path.name):
            signatures.sign(signed_bundle, path)
    for path in (public, tmp_path / "text", tmp_path / "nothing", signing_key):
        with pytest.raises(SignatureError, match=path.name):
            TrustedKeys.read(path)


def test_an_altered_bundle_is_not_signed(signed_bundle: Path, signing_key: Path) -> None:
    (signed_bundle / bundles.MODEL).write_bytes(b"x")
    with pytest.raises(BundleError, match="altered"):
        signatures.sign(signed_bundle, signing_key)


def test_the_commands_make_a_key_and_sign(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    key = tmp_path / "plant key"
    for arguments in (["keygen", str(key)], ["sign", str(copy), "--key", str(key)]):
        monkeypatch.setattr("sys.argv", ["build-engines", *arguments])
        cli.main()
    assert signatures.load(copy, trust(key))
    monkeypatch.setattr("sys.argv", ["build-engines", "sign", str(copy), "--key", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 2
    assert "none" in capsys.readouterr().err
