"""Guard against requests to the operator's own network: the addresses that a webhook may have.

A URL is checked when it is registered, and its addresses again at each delivery, which then connects to the checked
address and not to the name. ``WEBHOOK_ALLOWED_NETWORKS`` names networks whose addresses are always allowed.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import idna
from django.conf import settings

from generation.models.requests import MAX_WEBHOOK_URL

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Networks that :mod:`ipaddress` takes for global or that are too new for it.
_REFUSED: Final = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "64:ff9b:1::/48",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
]
#: The well-known prefix of NAT64, whose addresses end with one of IPv4.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: White space, control characters, and what parsers of URLs read in different ways.
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LONGEST_HOST: Final = 253
#: How long a name server may take.
RESOLVE_SECONDS: Final = 2.0
#: More threads than there are attempts at once: one that waits for a name server goes on after the attempt has ended.
resolver: Final = ThreadPoolExecutor(200, "resolver")


class RefusedURLError(Exception):
    """The URL may not be a webhook's. ``code`` is ``invalid``, ``not_https``, ``credentials``, ``not_allowed`` or
    ``unresolvable``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was read. ``host`` is in lower case and in ASCII, without brackets and without a final dot."""

    url: str
    scheme: str
    host: str
    port: int
    #: Path and query.
    path: str

    @property
    def netloc(self) -> str:
        """The value of the header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def at(self, address: IPAddress) -> str:
        """Return the URL with this address in place of the host."""
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def read(url: str) -> Target:
    """Read a URL without looking its host up. Raises :class:`RefusedURLError`."""
    if len(url) > MAX_WEBHOOK_URL or _UNSAFE.search(url):
        raise RefusedURLError("invalid", "Not a URL.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise RefusedURLError("invalid", "Not a URL.") from None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or (scheme == "http" and not settings.WEBHOOK_ALLOW_HTTP):
        raise RefusedURLError("not_https", "Must begin with https://.")
    if "@" in parts.netloc:
        raise RefusedURLError("credentials", "Must not contain a user name or a password.")
    if not host or port == 0:
        raise RefusedURLError("invalid", "Not a URL with a host and a port.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(url, scheme, _ascii(host), port or _DEFAULT_PORTS[scheme], path)
    if (literal := _literal(target.host)) is not None:
        check_address(literal)
    return target


def _ascii(host: str) -> str:
    if "%" in host:
        raise RefusedURLError("not_allowed", "An address with a zone is not allowed.")
    host = host.removesuffix(".")
    if ":" in host:
        return host
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            raise RefusedURLError("invalid", "Not the name of a host.") from None
    if len(host) > _LONGEST_HOST or not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_-])?", host) or ".." in host:
        raise RefusedURLError("invalid", "Not the name of a host.")
    return host


def _literal(host: str) -> IPAddress | None:
    """Return the address that the host spells, in any of the ways that the C library reads, or None for a name."""
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


def resolve(target: Target) -> list[IPAddress]:
    """Return the addresses of the host, all of which are allowed. May block for as long as the resolver does. Raises
    :class:`RefusedURLError`."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        raise RefusedURLError("unresolvable", f"{target.host} cannot be found.") from None
    addresses = list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))
    if not addresses:
        raise RefusedURLError("unresolvable", f"{target.host} cannot be found.")
    for address in addresses:
        check_address(address)
    return addresses


def resolve_soon(target: Target) -> list[IPAddress]:
    """Return what :func:`resolve` does, within :data:`RESOLVE_SECONDS`; nothing if a proxy resolves names."""
    if settings.WEBHOOK_PROXY:
        return []
    try:
        return resolver.submit(resolve, target).result(RESOLVE_SECONDS)
    except TimeoutError:
        raise RefusedURLError("unresolvable", f"{target.host} cannot be found.") from None


def check_address(address: IPAddress) -> None:
    """Raise :class:`RefusedURLError` unless the address is allowed."""
    if not _is_allowed(address):
        # The address itself would tell the caller about the operator's network.
        raise RefusedURLError("not_allowed", "This host is not allowed: its address is not a public one.")


def _is_allowed(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        return False
    if any(address in network for network in settings.WEBHOOK_ALLOWED_NETWORKS):
        return True
    embedded = list(_embedded(address))
    if embedded:
        return all(map(_is_allowed, embedded))
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
        and not any(address in network for network in _REFUSED)
        and not _is_own(address)
    )


def _embedded(address: IPAddress) -> Iterator[IPAddress]:
    """Yield the addresses of IPv4 that packets to this one may come to."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _is_own(address: IPAddress) -> bool:
    """Return whether an interface of this machine has the address, since only such an address can be bound."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((str(address), 0))
        return True
    return False
