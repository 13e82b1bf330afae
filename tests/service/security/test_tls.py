"""HTTPS, client certificates, and what wrong files say at the start."""

import ipaddress
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.errors import StartError
from service.security.tls import server_context
from service.settings import Settings
from tests.service.conftest import RAW
from tests.service.running import RunningServer, running_server
from tests.service.security.conftest import clean_environment, connected, read_all


@dataclass(frozen=True)
class Issued:
    certificate: Path
    key: Path


def issue(folder: Path, name: str, issuer: Issued | None = None) -> Issued:
    """A certificate for 127.0.0.1, by another one or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, by_key = subject, key
    if issuer is not None:
        by = x509.load_pem_x509_certificate(issuer.certificate.read_bytes()).subject
        by_key = serialization.load_pem_private_key(issuer.key.read_bytes(), None)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(by_key, hashes.SHA256())
    )
    issued = Issued(folder / f"{name}.pem", folder / f"{name}.key")
    issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    issued.key.write_bytes(pem(key, serialization.NoEncryption()))
    return issued


def pem(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@dataclass(frozen=True)
class Plant:
    folder: Path
    server: Issued
    authority: Issued
    client: Issued
    stranger: Issued


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    folder = tmp_path_factory.mktemp("tls")
    authority = issue(folder, "authority")
    client, stranger = issue(folder, "camera", authority), issue(folder, "stranger")
    return Plant(folder, issue(folder, "server"), authority, client, stranger)


@pytest.fixture(scope="module")
def secured(bundle_folder: Path, plant: Plant) -> Iterator[RunningServer]:
    """A server that speaks HTTPS to clients with certificates of the plant's authority alone."""
    flags = ["--tls-certificate", plant.server.certificate, "--tls-key", plant.server.key]
    flags += ["--tls-client-ca", plant.authority.certificate]
    folder = plant.folder / "server"
    with running_server(bundle_folder, folder, *map(str, flags), wait=False) as running:
        running.url = running.url.replace("http://", "https://")
        with httpx.Client(base_url=running.url, verify=context_of(plant, plant.client), timeout=30) as client:
            running.client = client
            running.wait_ready()
            yield running


def context_of(plant: Plant, client: Issued | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=plant.server.certificate)
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def test_an_image_is_inspected_over_https(secured: RunningServer, picture: bytes) -> None:
    assert secured.url.startswith("https://")
    assert secured.client.post("/v1/inspections", content=picture, headers=RAW).status_code == 200


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_a_client_without_a_certificate_of_the_plant_does_not_connect(
    secured: RunningServer, plant: Plant, who: str
) -> None:
    context = context_of(plant, plant.stranger if who == "stranger" else None)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{secured.url}/livez", verify=context)
    assert secured.client.get("/livez").status_code == 200


def test_what_is_not_encrypted_gets_no_answer(secured: RunningServer) -> None:
    with connected(secured) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in read_all(connection)


def test_old_tls_is_refused(secured: RunningServer, plant: Plant) -> None:
    context = context_of(plant, plant.client)
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{secured.url}/livez", verify=context)


def test_a_renewed_certificate_serves_without_a_restart(bundle_folder: Path, tmp_path: Path) -> None:
    """Files that do not fit together leave the one before, and what is connected stays so."""
    served, renewed = issue(tmp_path, "served"), issue(tmp_path, "renewed")
    flags = [f"--tls-certificate={served.certificate}", f"--tls-key={served.key}"]
    with running_server(bundle_folder, tmp_path / "server", *flags, wait=False) as running:
        port = int(running.url.rpartition(":")[2])

        def shown() -> str:
            return ssl.get_server_certificate(("127.0.0.1", port))

        first = ssl.create_default_context(cafile=served.certificate)
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=first) as connected_before:
            running.client = connected_before
            running.wait_ready()
            renewed.key.replace(served.key)
            running.wait_for(lambda: "was not renewed" in running.log.read_text())
            assert shown() == served.certificate.read_text()
            renewed.certificate.replace(served.certificate)
            running.wait_for(lambda: shown() == served.certificate.read_text())
            assert connected_before.get("/livez").status_code == 200


def test_the_probe_asks_over_https(secured: RunningServer, plant: Plant) -> None:
    def probe(certificate: Issued) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(
            UNISPECT_TLS_CERTIFICATE=str(certificate.certificate),
            UNISPECT_PROBE_CERTIFICATE=str(plant.client.certificate),
            UNISPECT_PROBE_KEY=str(plant.client.key),
        )
        port = secured.url.rpartition(":")[2]
        command = [sys.executable, "-m", "service.probe", "--port", port]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    done = probe(plant.server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"ok"' in done.stdout
    assert probe(plant.stranger).returncode == 1


def test_wrong_files_are_named(plant: Plant, tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.key"
    key = serialization.load_pem_private_key(plant.server.key.read_bytes(), None)
    encrypted.write_bytes(pem(key, serialization.BestAvailableEncryption(b"secret")))
    (tmp_path / "text").write_text("no certificate")
    good = {"tls_certificate": plant.server.certificate, "tls_key": plant.server.key}
    wrong = {
        "without tls_certificate": {"tls_key": plant.server.key},
        "tls_client_ca": {"tls_client_ca": plant.authority.certificate},
        "nothing": good | {"tls_certificate": tmp_path / "nothing"},
        "camera.key": good | {"tls_key": plant.client.key},
        "server.pem": {"tls_certificate": plant.server.certificate},
        "encrypted.key": good | {"tls_key": encrypted},
        "text": good | {"tls_client_ca": tmp_path / "text"},
    }
    for word, settings in wrong.items():
        with pytest.raises(StartError, match=word) as caught:
            server_context(Settings(bundle=tmp_path, **settings))
        assert "\n" not in str(caught.value)
    assert server_context(Settings(bundle=tmp_path, **good)) is not None
    assert server_context(Settings(bundle=tmp_path)) is None
