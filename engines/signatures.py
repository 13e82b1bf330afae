"""Signed bundles: Ed25519 (RFC 8032) over `bundle.json`, whose digests cover every other file.

The signature lies beside it as `bundle.sig`. Keys are PEM files: the private one unencrypted PKCS #8, of the public
ones as many in a file as are trusted.
"""

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from engines import bundle as bundles
from engines.bundle import MANIFEST, Bundle
from engines.errors import SignatureError
from engines.files import write_atomic

SIGNATURE = "bundle.sig"
# No signature of something else with the same key can pass for one of a bundle.
_PURPOSE = b"unispect bundle 1\0"
_PUBLIC_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_LARGEST_FILE = 64 * 2**10


class _Signature(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["ed25519"] = "ed25519"
    key: str
    signature: str


class TrustedKeys:
    """Whose signatures count.

    Args:
        keys: public keys by fingerprint.
    """

    def __init__(self, keys: dict[str, Ed25519PublicKey]) -> None:
        self._keys = keys

    @classmethod
    def read(cls, path: Path) -> "TrustedKeys":
        """The public keys in a PEM file. Raises SignatureError where it has none, or one that is not Ed25519."""
        keys = {}
        for pem in _PUBLIC_PEM.findall(_read(path)):
            try:
                key = serialization.load_pem_public_key(pem)
            except (ValueError, UnsupportedAlgorithm) as error:
                raise SignatureError(f"{path} has a public key that cannot be read; write it anew.") from error
            if not isinstance(key, Ed25519PublicKey):
                raise SignatureError(
                    f"{path} has a public key that is not Ed25519; make one with build-engines keygen."
                )
            keys[fingerprint(key)] = key
        if not keys:
            raise SignatureError(f"{path} has no public key; give the .pub file that build-engines keygen wrote.")
        return cls(keys)

    def verify(self, folder: Path) -> None:
        """Check who signed a bundle. Raises SignatureError where it is none of these, or it was altered since."""
        found = _signature_of(folder)
        if found is None:
            raise SignatureError(f"The bundle {folder} is not signed; sign it with build-engines sign.")
        try:
            signature = base64.b64decode(found.signature, validate=True)
        except binascii.Error as error:
            raise SignatureError(f"{folder / SIGNATURE} is no signature; sign the bundle again.") from error
        if (key := self._keys.get(found.key)) is None:
            trusted = ", ".join(self._keys)
            raise SignatureError(f"The bundle {folder} is signed by {found.key[:32]!r}, and trusted are {trusted}.")
        try:
            key.verify(signature, _PURPOSE + _manifest(folder))
        except InvalidSignature as error:
            raise SignatureError(f"The bundle {folder} was altered after it was signed; do not use it.") from error


def load(folder: Path, trusted: TrustedKeys | None) -> Bundle:
    """Read and verify a bundle, its signature first where keys are `trusted`.

    Raises:
        SignatureError: it is unsigned, altered, or signed by somebody else.
        BundleError: as `bundle.load`.
    """
    if trusted is not None:
        trusted.verify(folder)
    return bundles.load(folder)


def signer(folder: Path) -> str | None:
    """The fingerprint of the key that a bundle names as its signer, which proves nothing; None where it is not signed.

    Raises SignatureError where the signature cannot be read.
    """
    found = _signature_of(folder)
    return None if found is None else found.key


def generate(path: Path) -> Path:
    """Write a new private key to `path` and its public one beside it, with `.pub` added; returns the latter.

    Raises SignatureError where one of the files is there already: a lost private key cannot be had again.
    """
    public_path = path.with_name(f"{path.name}.pub")
    for taken in (path, public_path):
        if taken.exists():
            raise SignatureError(f"{taken} is there already; choose another name, for keys are not overwritten.")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomic(path, private, mode=0o600)
    write_atomic(public_path, _public_pem(key.public_key()))
    return public_path


def sign(folder: Path, key_path: Path) -> str:
    """Verify a bundle and write its signature; an older one is replaced. Returns the key's fingerprint.

    Raises:
        BundleError: the bundle is missing, altered or of another schema.
        SignatureError: the file is no private key.
    """
    bundles.load(folder)
    try:
        key = serialization.load_pem_private_key(_read(key_path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{key_path} is no private key; make one with build-engines keygen.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{key_path} is no Ed25519 key; make one with build-engines keygen.")
    name = fingerprint(key.public_key())
    text = base64.b64encode(key.sign(_PURPOSE + _manifest(folder))).decode()
    content = _Signature(key=name, signature=text).model_dump_json(indent=1) + "\n"
    write_atomic(folder / SIGNATURE, content.encode())
    return name


def fingerprint(key: Ed25519PublicKey) -> str:
    """What a key is called by: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _signature_of(folder: Path) -> _Signature | None:
    path = folder / SIGNATURE
    if not path.is_file():
        return None
    try:
        return _Signature.model_validate_json(_read(path))
    except ValidationError as error:
        raise SignatureError(f"{path} is no signature; sign the bundle again.") from error


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        return path.read_bytes()
    except OSError as error:
        raise SignatureError(f"{path} cannot be read ({error.strerror}); give the folder of a bundle.") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise SignatureError(f"{path} cannot be read ({error.strerror}); give another file.") from error
    if len(content) > _LARGEST_FILE:
        raise SignatureError(f"{path} is too large for what it should be; give another file.")
    return content
