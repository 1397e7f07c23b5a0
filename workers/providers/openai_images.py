"""The image in an answer of OpenAI, or of a server that speaks its API: in base64, or behind an address."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import httpx2

from generation.states import ErrorCode
from workers.providers import http
from workers.providers.base import ProviderError
from workers.providers.bodies import decode_base64, image_type, read_image
from workers.providers.openai_errors import VENDOR
from workers.providers.support import is_loopback, name

logger = logging.getLogger(__name__)

_ENCODED: Final = ("b64_json", "b64", "base64", "image_base64", "image")
_ADDRESSES: Final = ("url", "image_url")
_PORTS: Final = {"http": 80, "https": 443}


def entry_of(answer: Mapping[str, object]) -> Mapping[str, object]:
    """Return the first entry that holds an image, else the first of all."""
    found = answer.get("data") or answer.get("images")
    entries = [_entry(item) for item in (found if isinstance(found, list) else [found])]
    with_image = (entry for entry in entries if any(entry.get(key) for key in (*_ENCODED, *_ADDRESSES)))
    return next(with_image, None) or next(iter(entries), None) or {}


def _entry(item: object) -> Mapping[str, object]:
    return {"b64_json": item} if isinstance(item, str) else http.mapping(item)


async def image_of(
    entry: Mapping[str, object], number: str, fetch: Callable[[str, str], Awaitable[bytes]]
) -> bytes | None:
    """Return the bytes of the entry's image, or ``None`` where it has none. Raises :class:`ProviderError`.

    An image that is named and cannot be had was billed all the same, so all such errors are final.
    """
    for key in _ENCODED:
        encoded = entry.get(key)
        if isinstance(encoded, str) and encoded.startswith(("http://", "https://")):
            return await fetch(encoded, number)
        if encoded:
            return read_image(encoded, VENDOR, number)
    for key in _ADDRESSES:
        value = entry.get(key)
        address = value.get("url") if isinstance(value, Mapping) else value
        if address is None:
            continue
        if not isinstance(address, str) or not address.strip():
            raise _lost("OpenAI's image has an address that is none", number)
        if address.lstrip()[:5].lower() == "data:":
            return read_image(address, VENDOR, number)
        if (data := decode_base64(address)) and image_type(data):
            return data
        return await fetch(address.strip(), number)
    return None


class ImageAddresses:
    """Fetches images from the addresses that a server names.

    Such an address could lead anywhere, into our own network too. So it is followed within the origin of ``base_url``,
    which is called anyway, and to the hosts that the operator names (``host`` or ``host:port``), over https unless the
    host is on loopback. Redirects are not followed and no key is sent: these addresses are made for browsers.
    """

    def __init__(self, *, base_url: str, hosts: Collection[str]) -> None:
        self._base = httpx2.URL(base_url)
        self._hosts = frozenset(map(_host_and_port, hosts))

    async def fetch(self, client: httpx2.AsyncClient, address: str, number: str) -> bytes:
        """Raises :class:`ProviderError`, final wherever the next call would end the same."""
        try:
            url = self._base.join(address)
        except (httpx2.InvalidURL, ValueError):
            raise _lost("OpenAI's image has an address that is none", number) from None
        if not self.may_follow(url):
            logger.warning("An image at %s is not fetched: OPENAI_IMAGE_HOSTS does not name it", name(url.host) or "?")
            raise _lost("OpenAI answered with an address instead of an image, on a host that is not followed", number)
        try:
            response = await client.get(url, headers={"accept": "image/*"})
        except (httpx2.HTTPError, UnicodeError):
            # The image was made and billed, so not even "cannot be reached" means that nothing happened.
            message = "OpenAI's image could not be fetched from the address that it gave"
            raise ProviderError(message, code=ErrorCode.UNKNOWN_OUTCOME, provider_request_id=number) from None
        if response.status_code != 200:
            raise _lost("OpenAI's image is not at the address that it gave", number)
        return response.content

    def may_follow(self, url: httpx2.URL) -> bool:
        """Whether an image may be fetched from there."""
        if _origin(url) == _origin(self._base):
            return url.userinfo in {b"", self._base.userinfo}
        if url.userinfo or not (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host))):
            return False
        # A host that is named without a port stands for the usual port of the scheme.
        named = {(host, port or _PORTS[url.scheme]) for host, port in self._hosts}
        return (url.host.lower(), _port(url)) in named


def _lost(message: str, number: str) -> ProviderError:
    return ProviderError(message, code=ErrorCode.INVALID_IMAGE, provider_request_id=number)


def _host_and_port(text: str) -> tuple[str, int | None]:
    url = httpx2.URL(f"https://{text}")
    return url.host.lower(), url.port


def _port(url: httpx2.URL) -> int | None:
    return url.port or _PORTS.get(url.scheme)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host.lower(), _port(url)
