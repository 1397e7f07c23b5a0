"""The network address of a client, for rate limits, sign-in and the audit."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from django.conf import settings
from django.http import HttpRequest

#: Clients whose address cannot be told share this one: a Unix socket, or an unusable header from the proxy.
UNKNOWN: Final = "0.0.0.0"  # noqa: S104
#: ``[2001:db8::1]:443``, and what proxies put in place of a port (RFC 7239, section 6).
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\](?::[\w.-]*)?")
_PORT: Final = re.compile(r":(?:\d{1,5}|_[\w.-]*)?", re.ASCII)
#: The prefix with which NAT64 writes an IPv4 address (RFC 6052). All of IPv4 is within one /64 there.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: No address with zone and port is longer.
_LONGEST: Final = 100


def client_address(request: HttpRequest) -> str:
    """Return the address that the nearest proxy not in ``TRUSTED_PROXIES`` connected from; of IPv6 its /64 network,
    since one client has all of it."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    return address_of(str(request.META.get("REMOTE_ADDR") or ""), str(forwarded))


def address_of(peer: str, forwarded: str) -> str:
    """Return the client's address from the peer of the connection and from ``X-Forwarded-For``. Where that header came
    several times, join its values with commas first."""
    address = peer
    if settings.TRUSTED_PROXIES:
        # Each proxy appends the peer that it saw. Entries further left are whatever the client wrote. Empty entries
        # do not count in a list (RFC 9110, section 5.6.1).
        entries = [entry for part in forwarded.split(",") if (entry := part.strip())] or [""]
        if len(entries) >= settings.TRUSTED_PROXIES:
            address = entries[-settings.TRUSTED_PROXIES]
    found = _parsed(address)
    if found is None:
        return UNKNOWN
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(ipaddress.IPv6Network((int(found), 64), strict=False))


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address that may be quoted, bracketed, and followed by a port or a zone."""
    text = text.strip().strip('"').strip()
    if len(text) > _LONGEST:
        return None
    if match := _BRACKETED.fullmatch(text):
        return _ip(match[1])
    if (found := _ip(text)) is not None:
        return found
    host, colon, port = text.rpartition(":")
    return _ip(host) if _PORT.fullmatch(colon + port) else None


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse a bare address. IPv4 that is written as IPv6 is IPv4."""
    try:
        found = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv4Address):
        return found
    if found.ipv4_mapped:
        return found.ipv4_mapped
    if int(found) >> 32 == int(_NAT64.network_address) >> 32:
        return ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
    return found
