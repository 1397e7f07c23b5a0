"""What a gRPC status means, and which addresses may be talked to in the clear."""

from __future__ import annotations

import pytest

pytest.importorskip("grpc", reason="stability-sdk brings it, and there is none for Python 3.13")

import grpc

from workers.providers.stability_grpc import rpc_error
from workers.providers.support import is_loopback


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("UNAUTHENTICATED", "auth"),
        ("PERMISSION_DENIED", "auth"),
        ("RESOURCE_EXHAUSTED", "quota_exhausted"),
        ("NOT_FOUND", "model_retired"),
        ("INVALID_ARGUMENT", "invalid_request"),
        ("OUT_OF_RANGE", "invalid_request"),
        ("FAILED_PRECONDITION", "invalid_request"),
        ("UNIMPLEMENTED", "invalid_request"),
        ("UNAVAILABLE", "unavailable"),
        ("INTERNAL", "unavailable"),
        ("UNKNOWN", "unavailable"),
        ("ABORTED", "unavailable"),
        ("DATA_LOSS", "unavailable"),
        ("CANCELLED", "unknown_outcome"),
        ("DEADLINE_EXCEEDED", "unknown_outcome"),
        ("ALREADY_EXISTS", "unknown_outcome"),
    ],
)
def test_a_status_becomes_our_code(status: str, code: str) -> None:
    found = rpc_error(status, "sk-secret", still_connected=True, model="xl")
    assert found.code == code
    assert "sk-secret" not in found.message + repr(found.detail)


def test_every_status_has_a_meaning_that_is_no_fault_of_ours() -> None:
    codes = {rpc_error(status.name, "", still_connected=True, model="xl").code for status in grpc.StatusCode}
    assert "internal" not in codes


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED", "DATA_LOSS"])
def test_an_error_that_closes_the_connection_may_have_been_billed(status: str) -> None:
    assert rpc_error(status, "Socket closed", still_connected=False, model="xl").code == "unknown_outcome"


@pytest.mark.parametrize(
    ("status", "details", "code", "scope"),
    [
        ("INVALID_ARGUMENT", "Invalid prompts detected", "refused_input", "request"),
        ("INVALID_ARGUMENT", "One or more prompts contains filtered words.", "refused_input", "request"),
        ("PERMISSION_DENIED", "Your request was flagged by our content moderation system", "refused_input", "request"),
        ("FAILED_PRECONDITION", "generated image was filtered by the safety system", "refused_output", "request"),
        ("UNKNOWN", "content_policy_violation", "refused_input", "request"),
        ("UNAVAILABLE", "the content filter is temporarily unavailable", "unavailable", "provider"),
        ("INVALID_ARGUMENT", "oops", "invalid_request", "request"),
        ("INVALID_ARGUMENT", "height must be a multiple of 64", "invalid_request", "model"),
        ("OUT_OF_RANGE", "", "invalid_request", "model"),
        ("UNIMPLEMENTED", "", "invalid_request", "model"),
        ("PERMISSION_DENIED", "this key may not use engine xl", "auth", "model"),
        ("PERMISSION_DENIED", "missing scope", "auth", "provider"),
        ("RESOURCE_EXHAUSTED", "rate limit reached", "rate_limited", "provider"),
        ("RESOURCE_EXHAUSTED", "Your organization does not have enough balance", "quota_exhausted", "provider"),
        ("NOT_FOUND", "", "model_retired", "model"),
        ("INTERNAL", "Compression algorithm 'gzip' is disabled.", "invalid_image", "request"),
        # The page of a proxy, which the library turns into a status.
        ("PERMISSION_DENIED", "Received http2 header with status: 403", "invalid_request", "request"),
        ("UNAUTHENTICATED", "Received http2 header with status: 401", "invalid_request", "request"),
        ("NOT_FOUND", "Received http2 header with status: 404", "unavailable", "request"),
        ("RESOURCE_EXHAUSTED", "Received http2 header with status: 429", "rate_limited", "provider"),
        ("UNAVAILABLE", "Received http2 header with status: 503", "unavailable", "provider"),
        ("UNAVAILABLE", "Received http2 header with status: 504", "unknown_outcome", "provider"),
    ],
)
def test_the_details_of_a_status_narrow_its_meaning(status: str, details: str, code: str, scope: str) -> None:
    found = rpc_error(status, details, still_connected=True, model="xl")
    assert (found.code, found.scope) == (code, scope)
    assert not details or details not in found.message


def test_a_message_that_is_too_long_is_told_from_a_credit_that_is_used_up() -> None:
    details = "CLIENT: Received message larger than max (20971532 vs. 10485760)"
    found = rpc_error("RESOURCE_EXHAUSTED", details, still_connected=True, model="xl")
    assert (found.code, found.message) == ("invalid_image", "The provider's answer has more than 10 MB")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("::1", True),
        ("grpc.stability.ai", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104  not bound to
        ("", False),
    ],
)
def test_only_this_machine_is_spoken_to_in_the_clear(host: str, here: bool) -> None:
    assert is_loopback(host) is here
