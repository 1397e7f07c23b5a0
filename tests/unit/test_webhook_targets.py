"""The addresses that a webhook may have, in every spelling."""

from __future__ import annotations

import ipaddress
import random
import socket
from typing import Any

import pytest

from generation.webhooks import schedule, targets
from generation.webhooks.targets import RefusedURLError


def refusal(url: str) -> str:
    """The code with which the URL is refused, also after its host was looked up; empty if it is not."""
    try:
        targets.resolve(targets.read(url))
    except RefusedURLError as refused:
        return refused.code
    return ""


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001"),
        *("127.0.0.1.", "0", "0.0.0.0", "0x0", "10.0.0.1", "10.1", "172.16.0.1", "172.31.255.255", "192.168.0.1"),  # noqa: S104
        *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "100.64.0.1", "192.0.0.8"),
        *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.250"),
        *("240.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
        *("[::ffff:169.254.169.254]", "[64:ff9b::169.254.169.254]", "[64:ff9b::7f00:1]", "[64:ff9b:1::a00:1]"),
        *("[2002:7f00:1::1]", "[2002:a9fe:a9fe::]", "[2001:0:7f00:1::]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]"),
        *(
            "[fe80::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[3fff::1]",
            "[5f00::1]",
        ),
        *(
            "[fe80::1%25eth0]",
            "[::1%25lo]",
            "127。0。0。1",
            "１２７.0.0.1",
            "①②⑦.0.0.1",
            "localhost",
            "LOCALHOST.",
            "ⓛocalhost",
        ),
    ],
)
def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    assert refusal(f"https://{host}/") == "not_allowed"
    assert refusal(f"https://{host}:8443/a?b=c") == "not_allowed"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.org/", "not_https"),
        ("ftp://example.org/", "not_https"),
        ("file:///etc/passwd", "not_https"),
        ("gopher://example.org/", "not_https"),
        ("example.org", "not_https"),
        ("//example.org/", "not_https"),
        ("https://user@example.org/", "credentials"),
        ("https://user:password@example.org/", "credentials"),
        ("https://@example.org/", "credentials"),
        ("https://example.org@127.0.0.1/", "credentials"),
        ("https://", "invalid"),
        ("https:///path", "invalid"),
        ("https://example.org:0/", "invalid"),
        ("https://example.org:65536/", "invalid"),
        ("https://example.org:-1/", "invalid"),
        ("https://example.org:x/", "invalid"),
        ("https://example.org\\@127.0.0.1/", "invalid"),
        ("https://exam ple.org/", "invalid"),
        ("https://example.org/\r\nHost: a", "invalid"),
        ("https://exa\tmple.org/", "invalid"),
        ("https://example.org/\x00", "invalid"),
        ("https://[::1/", "invalid"),
        ("https://a..b/", "invalid"),
        ("https://-example.org/", "invalid"),
        (f"https://{'a' * 300}.org/", "invalid"),
        (f"https://example.org/{'a' * 2048}", "invalid"),
        ("https://xn--/", "unresolvable"),
        ("https://no-such-host.invalid/", "unresolvable"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, code: str) -> None:
    assert refusal(url) == code


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808"],
)
def test_a_public_address_is_allowed(address: str) -> None:
    targets.check_address(ipaddress.ip_address(address))


def test_one_private_address_among_public_ones_is_enough(monkeypatch: Any) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 443)) for host in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert refusal("https://example.org/") == "not_allowed"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
    assert refusal("https://example.org/") == ""


def test_an_address_of_this_machine_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(targets, "_is_own", lambda address: str(address) == "8.8.8.8")
    with pytest.raises(RefusedURLError):
        targets.check_address(ipaddress.ip_address("8.8.8.8"))


def test_only_an_address_of_this_machine_is_its_own() -> None:
    assert targets._is_own(ipaddress.ip_address("127.0.0.1"))
    assert not targets._is_own(ipaddress.ip_address("8.8.8.8"))


def test_the_operator_may_allow_networks(settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
    assert refusal("https://10.1.2.3/") == ""
    assert refusal("https://[::ffff:10.1.2.3]/") == ""
    assert refusal("https://[fd00::1]/") == ""
    assert refusal("https://11.0.0.1/") == ""
    assert refusal("https://127.0.0.1/") == "not_allowed"


def test_a_url_is_read_in_one_way() -> None:
    target = targets.read("HTTPS://BÜCHER.example.:8443/a/b?c=d#e")
    assert (target.host, target.port, target.path) == ("xn--bcher-kva.example", 8443, "/a/b?c=d")
    assert target.netloc == "xn--bcher-kva.example:8443"
    assert target.at(ipaddress.ip_address("2606:4700::1111")) == "https://[2606:4700::1111]:8443/a/b?c=d"
    assert targets.read("https://example.org").netloc == "example.org"


def test_the_schedule_is_that_of_the_contract(monkeypatch: Any) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    delays = [schedule.delay_after(tries, status=500, retry_after=None) for tries in range(1, 11)]
    minutes, hours = 60, 3600
    assert delays == [5, 5 * minutes, 30 * minutes, *(n * hours for n in (2, 5, 10, 14, 20, 24)), None]


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [(429, 60.0, 60.0), (503, 1e9, 86_400.0), (429, 1.0, 5.0), (500, 60.0, 5.0), (None, 60.0, 5.0)],
)
def test_only_a_longer_retry_after_of_two_statuses_counts(
    status: int | None, retry_after: float, expected: float
) -> None:
    assert schedule.delay_after(1, status=status, retry_after=retry_after) == expected
