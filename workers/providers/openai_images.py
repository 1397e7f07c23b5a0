"""The image in an answer of OpenAI or of a compatible server: in base64, or at a URL."""

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
_URLS: Final = ("url", "image_url")
_PORTS: Final = {"http": 80, "https": 443}


def entry_of(answer: Mapping[str, object]) -> Mapping[str, object]:
    """Return the first entry with an image, else the first entry."""
    data = answer.get("data") or answer.get("images")
    entries = [_entry(item) for item in (data if isinstance(data, list) else [data])]
    return next(filter(has_image, entries), None) or next(iter(entries), None) or {}


def has_image(entry: Mapping[str, object]) -> bool:
    """Return whether the entry has an image or its URL."""
    return any(entry.get(key) for key in (*_ENCODED, *_URLS))


def _entry(item: object) -> Mapping[str, object]:
    return {"b64_json": item} if isinstance(item, str) else http.mapping(item)


async def image_of(
    entry: Mapping[str, object], call_id: str, fetch: Callable[[str, str], Awaitable[bytes]]
) -> bytes | None:
    """Return the bytes of the entry's image, or None if it has no image. Raises :class:`ProviderError`.

    An image that exists but cannot be fetched was billed, so all such errors are final.
    """
    for key in _ENCODED:
        encoded = entry.get(key)
        if isinstance(encoded, str) and encoded.startswith(("http://", "https://")):
            return await fetch(encoded, call_id)
        if encoded:
            return read_image(encoded, VENDOR, call_id)
    for key in _URLS:
        value = entry.get(key)
        address = value.get("url") if isinstance(value, Mapping) else value
        if address is None:
            continue
        if not isinstance(address, str) or not address.strip():
            raise _invalid("OpenAI's image has an invalid URL", call_id)
        if address.lstrip()[:5].lower() == "data:":
            return read_image(address, VENDOR, call_id)
        if (data := decode_base64(address)) and image_type(data):
            return data
        return await fetch(address.strip(), call_id)
    return None


class ImageUrls:
    """Fetches images from the URLs in a server's answers.

    Such a URL could point anywhere, also into the internal network. So it is only followed within the origin of
    ``base_url``, which is called anyway, and to the hosts that the operator names (``host`` or ``host:port``), over
    https unless the host is on loopback. Redirects are not followed. No key is sent, since these URLs are for browsers.
    """

    def __init__(self, *, base_url: str, hosts: Collection[str]) -> None:
        self._base = httpx2.URL(base_url)
        self._hosts = frozenset(map(_host_and_port, hosts))

    async def fetch(self, client: httpx2.AsyncClient, address: str, call_id: str) -> bytes:
        """Return the image at the URL. Raises :class:`ProviderError`, which is final unless another call may help."""
        try:
            url = self._base.join(address)
        except (httpx2.InvalidURL, ValueError):
            raise _invalid("OpenAI's image has an invalid URL", call_id) from None
        if not self.may_follow(url):
            logger.warning("an image at %s is not fetched: not in OPENAI_IMAGE_HOSTS", name(url.host) or "?")
            raise _invalid("OpenAI answered with a URL instead of an image, on a host that is not allowed", call_id)
        try:
            response = await client.get(url, headers={"accept": "image/*"})
        except (httpx2.HTTPError, UnicodeError):
            # The image was generated and billed, so even a failed connection is an unknown outcome.
            message = "OpenAI's image could not be fetched from its URL"
            raise ProviderError(message, code=ErrorCode.UNKNOWN_OUTCOME, provider_request_id=call_id) from None
        if response.status_code != 200:
            raise _invalid("OpenAI's image is not at its URL", call_id)
        return response.content

    def may_follow(self, url: httpx2.URL) -> bool:
        """Return whether an image may be fetched from the URL."""
        if _origin(url) == _origin(self._base):
            return url.userinfo in {b"", self._base.userinfo}
        if url.userinfo or not (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host))):
            return False
        # A host without a port is allowed on the default port of the scheme.
        named = {(host, port or _PORTS[url.scheme]) for host, port in self._hosts}
        return (url.host.lower(), _port(url)) in named


def _invalid(message: str, call_id: str) -> ProviderError:
    return ProviderError(message, code=ErrorCode.INVALID_IMAGE, provider_request_id=call_id)


def _host_and_port(text: str) -> tuple[str, int | None]:
    url = httpx2.URL(f"https://{text}")
    return url.host.lower(), url.port


def _port(url: httpx2.URL) -> int | None:
    return url.port or _PORTS.get(url.scheme)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host.lower(), _port(url)
