"""Chunked request bodies, as sent by clients that do not know the length beforehand and by proxies for HTTP/2."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from generation.api.parsers import MAX_BODY_BYTES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def with_length(application: WSGIApplication) -> WSGIApplication:
    """Set the Content-Length of a chunked body, since Django takes a body without one for empty.

    Reads at most one byte more than the limit, which is enough to tell that the body is too large.
    """

    def read_first(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ:
            body = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
            environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
        return application(environ, start_response)

    return read_first
