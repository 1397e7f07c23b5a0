"""The client IP address of a call, by the number of trusted proxies."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import RequestFactory

from generation.access.client_address import UNKNOWN, client_address

ADDRESSES: dict[str, tuple[int, str, str | None, str]] = {
    # name: (trusted proxies, peer address, X-Forwarded-For, expected address)
    "no proxy is trusted": (0, "192.0.2.1", "203.0.113.9", "192.0.2.1"),
    "one proxy": (1, "192.0.2.1", "203.0.113.9", "203.0.113.9"),
    "one proxy and what the client wrote": (1, "192.0.2.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
    "two proxies": (2, "192.0.2.1", "198.51.100.1, 203.0.113.9, 192.0.2.2", "203.0.113.9"),
    "two proxies, one entry": (2, "192.0.2.1", "203.0.113.9", "192.0.2.1"),
    "spaces and tabs": (1, "192.0.2.1", "198.51.100.1,\t 203.0.113.9 ", "203.0.113.9"),
    "no header": (1, "192.0.2.1", None, UNKNOWN),
    "empty": (1, "192.0.2.1", "", UNKNOWN),
    "a word": (1, "192.0.2.1", "203.0.113.9, unknown", UNKNOWN),
    "a port": (1, "192.0.2.1", "203.0.113.9:4711", "203.0.113.9"),
    "a port and what the client wrote": (1, "192.0.2.1", "198.51.100.1:1, 203.0.113.9:4711", "203.0.113.9"),
    "no digits after the colon": (1, "192.0.2.1", "203.0.113.9:", "203.0.113.9"),
    "a hidden port": (1, "192.0.2.1", "203.0.113.9:_p0rt", "203.0.113.9"),
    "a port that is a word": (1, "192.0.2.1", "203.0.113.9:http", UNKNOWN),
    "quotes": (1, "192.0.2.1", '"203.0.113.9:4711"', "203.0.113.9"),
    "IPv6 in brackets": (1, "192.0.2.1", "[2001:db8::1]", "2001:db8::/64"),
    "IPv6 in brackets with a port": (1, "192.0.2.1", "[2001:db8::1]:443", "2001:db8::/64"),
    "IPv6 in brackets and quotes": (1, "192.0.2.1", ' "[2001:db8::1]:443" ', "2001:db8::/64"),
    "IPv6 with a port and no brackets": (1, "192.0.2.1", "2001:db8:0:0:5:6:7:8:4711", "2001:db8::/64"),
    "IPv6 with a zone and a port": (1, "192.0.2.1", "[fe80::1%eth0]:443", "fe80::/64"),
    "IPv4 in IPv6 with a port": (1, "192.0.2.1", "[::ffff:203.0.113.9]:443", "203.0.113.9"),
    "IPv4 in IPv6 in hexadecimal": (1, "192.0.2.1", "::ffff:cb00:7109", "203.0.113.9"),
    "IPv4 behind NAT64": (0, "64:ff9b::203.0.113.9", None, "203.0.113.9"),
    "half of the brackets": (1, "192.0.2.1", "[2001:db8::1", UNKNOWN),
    "nothing in brackets": (1, "192.0.2.1", "[]:443", UNKNOWN),
    "a port alone": (1, "192.0.2.1", ":443", UNKNOWN),
    "a comma at the end": (1, "192.0.2.1", "198.51.100.1, 203.0.113.9,", "203.0.113.9"),
    "empty entries": (2, "192.0.2.1", "198.51.100.1, 203.0.113.9,, ,192.0.2.2", "203.0.113.9"),
    "commas alone": (1, "192.0.2.1", ", ,", UNKNOWN),
    "a socket of the proxy": (1, "", "203.0.113.9:4711", "203.0.113.9"),
    "a socket's name": (0, "unix:/run/web.sock", None, UNKNOWN),
    "a port of the peer": (0, "192.0.2.1:4711", None, "192.0.2.1"),
    "IPv6 of the peer in brackets": (0, "[2001:db8::1]:4711", None, "2001:db8::/64"),
    "not ASCII": (1, "192.0.2.1", "٢٠٣.0.113.9", UNKNOWN),
    "without end": (1, "192.0.2.1", "9" * 10_000, UNKNOWN),
    "a socket file": (0, "", None, UNKNOWN),
    "IPv6": (0, "2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
    "IPv6 of the same network": (0, "2001:db8:1:2::ffff", None, "2001:db8:1:2::/64"),
    "IPv6 of the next network": (0, "2001:db8:1:3::1", None, "2001:db8:1:3::/64"),
    "IPv6 of one machine": (0, "::1", None, "::/64"),
    "IPv6 with a zone": (0, "fe80::1%eth0", None, "fe80::/64"),
    "IPv4 in IPv6": (0, "::ffff:192.0.2.1", None, "192.0.2.1"),
    "IPv6 from a proxy": (1, "::1", "203.0.113.9, 2001:DB8:0:0::1", "2001:db8::/64"),
}


@pytest.mark.parametrize(("proxies", "remote", "forwarded", "expected"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_a_call_counts_for_the_address_seen_by_the_outermost_trusted_proxy(
    settings: Any, proxies: int, remote: str, forwarded: str | None, expected: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers: Any = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    assert client_address(RequestFactory().get("/", REMOTE_ADDR=remote, **headers)) == expected
