"""The error format of the API: ``error`` for people, ``code`` for programs, ``errors`` with a path for each field."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import IntegrityError
from django.http import Http404, HttpRequest, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import AuthenticationFailed as TokenAuthenticationFailed
from rest_framework_simplejwt.exceptions import TokenError

from generation.access.grants import NotAllowedError
from generation.db import outages
from generation.providers.pricing import OverBudgetError
from generation.requests.references import InvalidReferencesError

logger = logging.getLogger(__name__)


class BodyTooLarge(exceptions.APIException):
    """The body is larger than the limit."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is larger than 1 MiB"
    default_code = "body_too_large"


#: Message and code of the errors that depend only on the status.
PLAIN: Final = {
    400: ("Bad request", "bad_request"),
    403: ("You may not do this", "permission_denied"),
    404: ("Not found", "not_found"),
    405: ("This method is not allowed here", "method_not_allowed"),
    413: (BodyTooLarge.default_detail, BodyTooLarge.default_code),
    500: ("Internal server error", "internal"),
}


def plain(code: int) -> JsonResponse:
    """Return the response for a status in :data:`PLAIN`, for use outside DRF's views."""
    message, name = PLAIN[code]
    return JsonResponse({"error": message, "code": name}, status=code)


class InvalidValue(exceptions.APIException):
    """One invalid value, with its path."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "validation_error"

    def __init__(self, path: str, message: str, code: str) -> None:
        super().__init__(message)
        self.field_errors = [{"path": printable(path), "msg": message, "code": code}]


class ScopeMissing(exceptions.APIException):
    """The API key lacks the scope ``required``."""

    status_code = status.HTTP_403_FORBIDDEN
    default_code = "scope_missing"

    def __init__(self, required: str) -> None:
        super().__init__(f"The API key lacks the scope {required}")
        self.required = required


class NotFound(exceptions.APIException):
    """The request does not exist or belongs to another user: both responses are identical, byte for byte."""

    status_code = status.HTTP_404_NOT_FOUND
    default_detail = "Request not found"
    default_code = "not_found"


def printable(text: str) -> str:
    """Return a client's text made safe for a response: valid UTF-8, without NUL, at most 200 characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:200]


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Return the error response for an exception of a view (DRF's hook). Unexpected ones are logged and become 500."""
    if isinstance(error, exceptions.ValidationError):
        return _validation(list(_field_errors(error.detail, "")))
    if isinstance(error, InvalidValue):
        return _validation(error.field_errors)
    if isinstance(error, TokenAuthenticationFailed | TokenError):
        return _unauthenticated("Invalid token", "token_not_valid")
    if isinstance(error, exceptions.NotAuthenticated):
        return _unauthenticated("Access denied", "not_authenticated")
    if isinstance(error, exceptions.AuthenticationFailed):
        # A wrong name or password; the branch above handles token errors.
        codes = error.get_codes()
        return _unauthenticated(_sentence(error.detail), codes if isinstance(codes, str) else "authentication_failed")
    if isinstance(error, Http404):
        return _answer(404, NotFound.default_detail, NotFound.default_code)
    if isinstance(error, PermissionDenied | exceptions.PermissionDenied):
        return _answer(403, *PLAIN[403])
    if isinstance(error, ScopeMissing):
        return _answer(403, str(error.detail), error.default_code, required=error.required)
    if isinstance(error, InvalidReferencesError):
        return _validation([{"path": one.path, "msg": one.message, "code": one.code} for one in error.mistakes])
    if isinstance(error, NotAllowedError):
        details = [{"path": error.path, "msg": str(error), "code": "not_allowed"}]
        return _answer(403, str(error), "not_allowed", errors=details)
    if isinstance(error, OverBudgetError):
        return _answer(402, str(error), "over_budget")
    if isinstance(error, RequestDataTooBig):
        return _answer(413, BodyTooLarge.default_detail, BodyTooLarge.default_code)
    if isinstance(error, MultiPartParserError | SuspiciousOperation):  # as for a form of a thousand fields
        return _answer(400, *PLAIN[400])
    if isinstance(error, exceptions.APIException):
        codes = error.get_codes()
        headers = dict(getattr(error, "headers", {}))
        return _answer(
            error.status_code, _sentence(error.detail), codes if isinstance(codes, str) else "error", headers
        )
    if isinstance(error, IntegrityError) and _user_is_deleted(context):
        return _unauthenticated("Invalid token", "token_not_valid")
    if outages.is_outage(error):
        logger.error("the database is not reachable: %s", error)
        return _answer(503, outages.MESSAGE, outages.CODE, {"Retry-After": str(outages.RETRY_AFTER)})
    logger.error("unexpected error in %s", type(context.get("view")).__name__, exc_info=error)
    return _answer(500, *PLAIN[500])


def _user_is_deleted(context: dict[str, Any]) -> bool:
    """Return whether the user was deleted since authentication, so that a foreign key to it fails."""
    return not get_user_model().objects.filter(pk=context["request"].user.pk).exists()


def _answer(code: int, message: str, name: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    return Response({"error": message, "code": name, **more}, status=code, headers=headers or {})


def _unauthenticated(message: str, name: str) -> Response:
    return _answer(401, message, name, {"WWW-Authenticate": 'Bearer realm="api"'})


def _validation(field_errors: list[dict[str, str]]) -> Response:
    first = field_errors[0]
    message = f"{first['path']}: {first['msg']}" if first["path"] else first["msg"]
    if len(field_errors) > 1:
        message += f" (and {len(field_errors) - 1} more)"
    return _answer(400, message, "validation_error", errors=field_errors)


def _sentence(detail: Any) -> str:
    if isinstance(detail, dict):
        return _sentence(detail.get("detail", "The request is not valid"))
    return printable(str(detail))


def _field_errors(detail: Any, path: str) -> Any:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            if name == "non_field_errors":
                inner_path = path
            elif isinstance(name, int):  # members of a list by index, only the invalid ones
                inner_path = f"{path}[{name}]"
            else:
                inner_path = f"{path}.{name}" if path else str(name)
            yield from _field_errors(inner, inner_path)
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            # DRF uses lists both for the messages of one field and for the members of a list field.
            yield from _field_errors(inner, f"{path}[{index}]" if isinstance(inner, dict | list) else path)
    else:
        yield {"path": printable(path), "msg": printable(str(detail)), "code": getattr(detail, "code", "invalid")}


@csrf_exempt  # it changes nothing, and Django's page about a missing CSRF token is HTML
def page_not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """Return a JSON 404: Django's handler404, and the view of every URL without another view."""
    return plain(404)


def method_not_allowed(request: HttpRequest, allowed: str) -> JsonResponse:
    """Return a JSON 405 with ``Allow``, for views that are not DRF's."""
    error = {"error": f'Method "{printable(str(request.method))}" not allowed.', "code": "method_not_allowed"}
    return JsonResponse(error, status=405, headers={"Allow": allowed})


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Return a JSON 400: Django's handler400, as for a disallowed host or a malformed upload."""
    return plain(400)


def server_error(request: HttpRequest) -> JsonResponse:
    """Return a JSON 500, or 503 if the database is unavailable: Django's handler500, for errors outside DRF's views."""
    if outages.is_outage(sys.exc_info()[1]):  # Django calls this while it handles the exception
        body = {"error": outages.MESSAGE, "code": outages.CODE}
        return JsonResponse(body, status=503, headers={"Retry-After": str(outages.RETRY_AFTER)})
    return plain(500)
