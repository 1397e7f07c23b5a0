"""One attempt over real HTTP: what is sent, how answers are judged, and where nothing is sent to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from generation.identifiers import new_delivery_id
from generation.webhooks import targets
from generation.webhooks.leases import Leased, Result
from generation.webhooks.sender import Sender
from tests.support.receiver import Receiver, receiving
from tests.support.webhooks import SECRET

OTHER_SECRET = "whsec_" + "QUJD" * 8


@pytest.fixture(autouse=True)
def _loopback(settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_TIMEOUT_S = 2


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def leased(url: str, **more: Any) -> Leased:
    values: dict[str, Any] = {
        "id": new_delivery_id(),
        "claim": 1,
        "owner_id": 1,
        "endpoint_id": None,
        "target": "1 host",
        "event": "webhook.test",
        "request_id": "",
        "batch_id": "",
        "snapshot": {},
        "tries": 0,
        "occurred_at": datetime.now(UTC),
        "leased_at": datetime.now(UTC),
        "taken_at": time.monotonic(),
        "body": '{"type":"webhook.test","data":{"note":"für \U0001f98a"}}'.encode(),
        "secrets": (SECRET,),
    }
    return Leased(url=url, **values | more)


def send(url: str, *, tls: ssl.SSLContext | None = None, **more: Any) -> Result:
    async def act() -> Result:
        sender = Sender(tls=tls)
        try:
            return await sender.send(leased(url, **more))
        finally:
            await sender.aclose()

    return asyncio.run(act())


def test_the_official_library_verifies_what_arrives(receiver: Receiver) -> None:
    result = send(f"{receiver.url}/200?x=1")
    assert result.has_succeeded
    came = receiver.received[-1]
    assert standardwebhooks.Webhook(SECRET).verify(came.body, came.headers) == came.payload
    assert (came.path, came.headers["host"]) == ("/200?x=1", f"127.0.0.1:{receiver.port}")
    assert came.headers["content-type"] == "application/json"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(came.body + b" ", came.headers)


def test_both_secrets_sign_during_a_rotation(receiver: Receiver) -> None:
    send(f"{receiver.url}/200", secrets=(SECRET, OTHER_SECRET))
    came = receiver.received[-1]
    for secret in (SECRET, OTHER_SECRET):
        standardwebhooks.Webhook(secret).verify(came.body, came.headers)
    assert came.headers["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/204", 204, ""),
        ("/301?header=Location:/200", 301, "redirect"),
        ("/308?header=Location:http://127.0.0.1/", 308, "redirect"),
        ("/400", 400, "rejected"),
        ("/410", 410, "gone"),
        ("/500", 500, "rejected"),
        ("/hang", None, "timeout"),
        ("/headers", None, "timeout"),
    ],
)
def test_answers_are_judged_by_their_status(receiver: Receiver, path: str, status: int | None, error: str) -> None:
    before = len(receiver.received)
    result = send(receiver.url + path)
    assert (result.status, result.error) == (status, error)
    assert len(receiver.received) == before + 1  # no redirect was followed
    assert result.is_final == (status == 410)


@pytest.mark.parametrize("path", ["/drip", "/endless", "/huge"])
def test_a_body_that_does_not_end_holds_nothing_up(receiver: Receiver, path: str) -> None:
    started = time.monotonic()
    assert send(receiver.url + path).has_succeeded
    assert time.monotonic() - started < 1.8


def test_no_cookie_is_sent_to_the_next_target(receiver: Receiver) -> None:
    async def act() -> None:
        sender = Sender()
        await sender.send(leased(f"{receiver.url}/200?header=Set-Cookie:a=b"))
        await sender.send(leased(f"{receiver.url}/200"))
        await sender.aclose()

    asyncio.run(act())
    assert "cookie" not in receiver.received[-1].headers


@pytest.mark.parametrize(("value", "seconds"), [("120", 120.0), ("nonsense", None), ("999999999", 86_400.0)])
def test_retry_after_is_read(receiver: Receiver, value: str, seconds: float | None) -> None:
    assert send(f"{receiver.url}/429?header=Retry-After:{value}").retry_after == seconds


def test_a_closed_port_is_a_failed_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert send(f"http://127.0.0.1:{taken.getsockname()[1]}/").error == "connection_failed"


def test_an_answer_that_is_not_http_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        assert send(f"http://127.0.0.1:{server.getsockname()[1]}/").error == "connection_lost"


def test_a_late_attempt_is_not_sent(receiver: Receiver) -> None:
    before = len(receiver.received)
    result = send(f"{receiver.url}/200", taken_at=time.monotonic() - 60)
    assert result.was_interrupted
    assert len(receiver.received) == before


def test_addresses_that_changed_since_the_registration_are_refused(receiver: Receiver, monkeypatch: Any) -> None:
    def answer(address: str) -> Any:
        return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, receiver.port))]

    url = f"http://rebinding.example.org:{receiver.port}/200"
    monkeypatch.setattr(socket, "getaddrinfo", answer("127.0.0.1"))
    assert targets.resolve_soon(targets.read(url))
    monkeypatch.setattr(socket, "getaddrinfo", answer("169.254.169.254"))
    assert send(url).error == "not_allowed"


def test_the_connection_goes_to_the_checked_address_and_not_to_the_name(receiver: Receiver, monkeypatch: Any) -> None:
    answers = iter(["127.0.0.1"])  # a second look-up would fail

    def answer(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), receiver.port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    assert send(f"http://hooks.example.org:{receiver.port}/200").has_succeeded
    assert receiver.received[-1].headers["host"] == f"hooks.example.org:{receiver.port}"


def test_a_slow_name_server_ends_the_attempt(monkeypatch: Any) -> None:
    monkeypatch.setattr(targets, "RESOLVE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    assert send("http://slow.example.org/").error == "unresolvable"


# --- TLS --------------------------------------------------------------------------------------------------------------


def certificate_for(name: str, folder: Path) -> Path:
    """A self-signed certificate with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.replace(year=now.year - 1))
        .not_valid_after(now.replace(year=now.year + 1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("host", "is_trusted", "error"),
    [
        ("hooks.example.org", True, ""),
        ("other.example.org", True, "certificate"),
        ("hooks.example.org", False, "certificate"),
    ],
)
def test_the_certificate_must_be_trusted_and_of_the_host(
    tmp_path: Path, monkeypatch: Any, host: str, is_trusted: bool, error: str
) -> None:
    certificate = certificate_for("hooks.example.org", tmp_path)
    trusted = ssl.create_default_context(cafile=str(certificate)) if is_trusted else ssl.create_default_context()
    with receiving(certificate=certificate) as receiver:
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", receiver.port))],
        )
        assert send(f"https://{host}:{receiver.port}/200", tls=trusted).error == error
        assert len(receiver.received) == (not error)
