"""Send one delivery: look the host up, check its addresses, connect to one of them, and judge the answer.

Each delivery has a connection of its own: a pool would use the connection to an address for any host at that address,
also one whose certificate names another. A client of httpx2 would keep cookies for later deliveries, so this module
uses its transport, which neither follows redirects nor reads the environment.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any, Final

import httpx2
from django.conf import settings

from generation.webhooks import schedule, signatures, targets
from generation.webhooks.leases import GONE, LEASE, Leased, Result
from generation.webhooks.targets import RefusedURLError, Target

#: Bytes of an answer that are read and thrown away, and the seconds that this may take after its headers.
_MOST_BYTES: Final = 1024
_BODY_SECONDS: Final = 1.0
#: The most addresses of a host that are tried, and the seconds for connecting to one.
_MOST_ADDRESSES: Final = 3
_CONNECT_SECONDS: Final = 5.0
#: An attempt does not begin if less of its lease is left than the time-out and these seconds.
_SPARE_SECONDS: Final = 5.0
_HEADERS: Final = {
    "content-type": "application/json",
    "user-agent": "visual-generation-webhooks",
    "accept-encoding": "identity",
}


@cache
def _tls_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


class Sender:
    """Sends deliveries from one event loop."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` replaces the trusted certificate authorities."""
        self._transport = httpx2.AsyncHTTPTransport(
            verify=tls or _tls_context(),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
            proxy=settings.WEBHOOK_PROXY or None,
        )
        limits = httpx2.Timeout(settings.WEBHOOK_TIMEOUT_S, connect=min(_CONNECT_SECONDS, settings.WEBHOOK_TIMEOUT_S))
        self._extensions = {"timeout": limits.as_dict()}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def send(self, leased: Leased) -> Result:
        """Attempt the delivery. Cancelling it gives up the attempt."""
        now, started = leased.now(), time.monotonic()
        values: dict[str, Any]
        if leased.error:
            values = {"error": leased.error, "is_final": leased.is_final}
        elif started - leased.taken_at > LEASE.total_seconds() - settings.WEBHOOK_TIMEOUT_S - _SPARE_SECONDS:
            values = {"was_interrupted": True}  # another process may have it by now
        else:
            values = await self._attempt(leased, now)
        milliseconds = round((time.monotonic() - started) * 1000)
        return Result(leased=leased, at=now, milliseconds=milliseconds, **values)

    async def _attempt(self, leased: Leased, now: datetime) -> dict[str, Any]:
        try:
            async with asyncio.timeout(settings.WEBHOOK_TIMEOUT_S):
                response = await self._post(leased, now)
        except RefusedURLError as refusal:
            return {"error": refusal.code}
        except (TimeoutError, httpx2.TimeoutException):
            return {"error": "timeout"}
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
            return {"error": _code(error)}
        if 200 <= response.status_code < 300:
            return {"status": response.status_code}
        word = "redirect" if 300 <= response.status_code < 400 else "rejected"
        retry_after = schedule.retry_after_of(response.headers.get("retry-after", ""), now=now)
        is_gone = response.status_code == GONE
        return {
            "status": response.status_code,
            "error": "gone" if is_gone else word,
            "is_final": is_gone,
            "retry_after": retry_after,
        }

    async def _post(self, leased: Leased, now: datetime) -> httpx2.Response:
        target = targets.read(leased.url)
        signed = signatures.headers(leased.secrets, leased.id, int(now.timestamp()), leased.body)
        headers = _HEADERS | signed | {"host": target.netloc}
        if settings.WEBHOOK_PROXY:
            return await self._request(leased.url, leased.body, headers, {})
        addresses = (await _resolved(target))[:_MOST_ADDRESSES]
        extensions = {"sni_hostname": target.host}
        for index, address in enumerate(addresses):
            try:
                return await self._request(target.at(address), leased.body, headers, extensions)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if index + 1 == len(addresses) or _code(error) == "certificate":
                    raise
        raise RefusedURLError("unresolvable", "no address")

    async def _request(
        self, url: str, body: bytes, headers: dict[str, str], extensions: dict[str, Any]
    ) -> httpx2.Response:
        request = httpx2.Request("POST", url, content=body, headers=headers, extensions=self._extensions | extensions)
        response = await self._transport.handle_async_request(request)
        try:
            with suppress(TimeoutError, httpx2.HTTPError, httpx2.StreamError):
                async with asyncio.timeout(_BODY_SECONDS):
                    await _read_a_little(response)
        finally:
            await response.aclose()
        return response


async def _read_a_little(response: httpx2.Response) -> None:
    """Read the beginning of the body, so that a usual receiver sees an orderly end."""
    count = 0
    async for chunk in response.aiter_raw(_MOST_BYTES):
        count += len(chunk)
        if count >= _MOST_BYTES:
            return


async def _resolved(target: Target) -> list[targets.IPAddress]:
    """Return the addresses of the host, all of which are allowed, within :data:`targets.RESOLVE_SECONDS`."""
    looking = asyncio.get_running_loop().run_in_executor(targets.resolver, targets.resolve, target)
    looking.add_done_callback(lambda future: future.cancelled() or future.exception())  # it may end after this call
    try:
        async with asyncio.timeout(targets.RESOLVE_SECONDS):
            return await asyncio.shield(looking)
    except TimeoutError:
        raise RefusedURLError("unresolvable", f"{target.host} cannot be found.") from None


def _code(error: BaseException) -> str:
    """Return the log's word for an error without a status."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "certificate"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx2.ConnectError):
        return "connection_failed"
    return "connection_lost" if isinstance(error, httpx2.TransportError) else "invalid_answer"
