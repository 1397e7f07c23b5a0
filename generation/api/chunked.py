"""Chunked request bodies, as sent by clients that do not know the length beforehand and by proxies for HTTP/2."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, Final

from generation.api.parsers import MAX_BODY_BYTES
from generation.storage.uploads_image import MAX_BODY_BYTES as UPLOAD_BODY

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: The path whose bodies may be larger than all others.
UPLOADS: Final = "/api/visual-generation/uploads"
_CHUNK_BYTES: Final = 64 * 1024


def with_length(application: WSGIApplication) -> WSGIApplication:
    """Set the Content-Length of a chunked body, since Django takes a body without one for empty.

    Reads at most one byte more than the limit, which is enough to tell that the body is too large. An upload goes to a
    temporary file.
    """

    def read_first(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ:
            most = UPLOAD_BODY if is_upload(environ) else MAX_BODY_BYTES
            with tempfile.SpooledTemporaryFile(max_size=MAX_BODY_BYTES) as stream:
                _copy(environ["wsgi.input"], stream, left=most + 1)
                environ |= {"CONTENT_LENGTH": str(stream.tell()), "wsgi.input": stream}
                stream.seek(0)
                return application(environ, start_response)  # a view reads the body before it returns
        return application(environ, start_response)

    return read_first


def _copy(body: Any, stream: IO[bytes], *, left: int) -> None:
    """Copy at most so many bytes."""
    while left and (part := body.read(min(left, _CHUNK_BYTES))):
        stream.write(part)
        left -= len(part)


def is_upload(environ: WSGIEnvironment) -> bool:
    """Return whether the call uploads an image."""
    return str(environ.get("PATH_INFO", "")).rstrip("/") == UPLOADS
