"""One shape for every error: ``error`` for people, ``code`` for programs, and ``errors`` with a path for each field."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import IntegrityError
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import AuthenticationFailed as TokenRefused
from rest_framework_simplejwt.exceptions import TokenError

from generation.db import outages
from generation.providers.pricing import OverBudgetError

logger = logging.getLogger(__name__)


class BodyTooLarge(exceptions.APIException):
    """The body has more bytes than any call needs."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is larger than 1 MiB"
    default_code = "body_too_large"


#: Text and code of the errors that need no more than their status.
PLAIN: Final = {
    400: ("Bad request", "bad_request"),
    403: ("You may not do this", "permission_denied"),
    404: ("Not found", "not_found"),
    405: ("This method is not allowed here", "method_not_allowed"),
    413: (BodyTooLarge.default_detail, BodyTooLarge.default_code),
    500: ("Internal server error", "internal"),
}


def plain(code: int) -> JsonResponse:
    """Return the answer outside of DRF's views for a status in :data:`PLAIN`."""
    message, name = PLAIN[code]
    return JsonResponse({"error": message, "code": name}, status=code)


class InvalidValue(exceptions.APIException):
    """One value that cannot be accepted, with the path at which it stands."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "validation_error"

    def __init__(self, path: str, message: str, code: str) -> None:
        super().__init__(message)
        self.faults = [{"path": printable(path), "msg": message, "code": code}]


class NotFound(exceptions.APIException):
    """What is not there, or is somebody else's: the two look the same, to the byte."""

    status_code = status.HTTP_404_NOT_FOUND
    default_detail = "Request not found"
    default_code = "not_found"


def printable(text: str) -> str:
    """What an answer can carry, whatever the client put into its names and values, and not longer than of use."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:200]


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's hook: every exception of a view becomes the one shape. Unknown ones are logged and told nothing of."""
    if isinstance(error, exceptions.ValidationError):
        return _validation(list(_faults(error.detail, "")))
    if isinstance(error, InvalidValue):
        return _validation(error.faults)
    if isinstance(error, TokenRefused | TokenError):
        return _unauthenticated("Invalid token", "token_not_valid")
    if isinstance(error, exceptions.NotAuthenticated):
        return _unauthenticated("Access denied", "not_authenticated")
    if isinstance(error, exceptions.AuthenticationFailed):
        # A wrong name or password; what is wrong with a token is the branch above.
        codes = error.get_codes()
        return _unauthenticated(_sentence(error.detail), codes if isinstance(codes, str) else "authentication_failed")
    if isinstance(error, Http404):
        return _answer(404, NotFound.default_detail, NotFound.default_code)
    if isinstance(error, PermissionDenied | exceptions.PermissionDenied):
        return _answer(403, *PLAIN[403])
    if isinstance(error, OverBudgetError):
        return _answer(402, str(error), "over_budget")
    if isinstance(error, RequestDataTooBig):
        return _answer(413, BodyTooLarge.default_detail, BodyTooLarge.default_code)
    if isinstance(error, exceptions.APIException):
        codes = error.get_codes()
        headers = dict(getattr(error, "headers", {}))
        return _answer(
            error.status_code, _sentence(error.detail), codes if isinstance(codes, str) else "error", headers
        )
    if isinstance(error, IntegrityError) and _client_is_gone(context):
        return _unauthenticated("Invalid token", "token_not_valid")
    if outages.is_outage(error):
        logger.error("the database is not reachable: %s", error)
        return _answer(503, outages.MESSAGE, outages.CODE, {"Retry-After": str(outages.RETRY_AFTER)})
    logger.error("unexpected error in %s", type(context.get("view")).__name__, exc_info=error)
    return _answer(500, *PLAIN[500])


def _client_is_gone(context: dict[str, Any]) -> bool:
    """Whether the user was deleted since this process looked, so that nothing can be theirs."""
    return not get_user_model().objects.filter(pk=context["request"].user.pk).exists()


def _answer(code: int, message: str, name: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    return Response({"error": message, "code": name, **more}, status=code, headers=headers or {})


def _unauthenticated(message: str, name: str) -> Response:
    return _answer(401, message, name, {"WWW-Authenticate": 'Bearer realm="api"'})


def _validation(faults: list[dict[str, str]]) -> Response:
    first = faults[0]
    message = f"{first['path']}: {first['msg']}" if first["path"] else first["msg"]
    if len(faults) > 1:
        message += f" (and {len(faults) - 1} more)"
    return _answer(400, message, "validation_error", errors=faults)


def _sentence(detail: Any) -> str:
    if isinstance(detail, dict):
        return _sentence(detail.get("detail", "The request is not valid"))
    return printable(str(detail))


def _faults(detail: Any, path: str) -> Any:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            if name == "non_field_errors":
                here = path
            elif isinstance(name, int):  # the members of a list, of which only the faulty ones are there
                here = f"{path}[{name}]"
            else:
                here = f"{path}.{name}" if path else str(name)
            yield from _faults(inner, here)
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            # DRF uses lists both for the messages of one field and for the members of a list field.
            yield from _faults(inner, f"{path}[{index}]" if isinstance(inner, dict | list) else path)
    else:
        yield {"path": printable(path), "msg": printable(str(detail)), "code": getattr(detail, "code", "invalid")}


@csrf_exempt  # it does nothing, and the page about a missing CSRF token is HTML
def page_not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """Django's handler404, and the view of every address without another: the one shape there, too."""
    return plain(404)


def method_not_allowed(request: HttpRequest, allowed: str) -> JsonResponse:
    """Answer a wrong method where the view is not one of DRF's."""
    error = {"error": f'Method "{printable(str(request.method))}" not allowed.', "code": "method_not_allowed"}
    return JsonResponse(error, status=405, headers={"Allow": allowed})


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's handler400: a forbidden host, a malformed upload."""
    return plain(400)


def server_error(request: HttpRequest) -> JsonResponse:
    """Django's handler500, for what fails outside a view of ours: 503 where the database is unavailable."""
    if outages.is_outage(sys.exc_info()[1]):  # Django calls this while it handles the exception
        body = {"error": outages.MESSAGE, "code": outages.CODE}
        return JsonResponse(body, status=503, headers={"Retry-After": str(outages.RETRY_AFTER)})
    return plain(500)
