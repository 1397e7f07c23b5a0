"""What a gRPC status means, and which addresses may be talked to in the clear."""

from __future__ import annotations

import pytest

pytest.importorskip("grpc", reason="stability-sdk brings it, and there is none for Python 3.13")

import grpc

from workers.providers.stability_grpc import is_loopback, rpc_error


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
def test_a_fault_after_which_nobody_is_connected_may_have_been_paid_for(status: str) -> None:
    assert rpc_error(status, "Socket closed", still_connected=False, model="xl").code == "unknown_outcome"


def test_a_message_that_is_too_long_is_told_from_a_credit_that_is_used_up() -> None:
    details = "CLIENT: Received message larger than max (20971532 vs. 10485760)"
    found = rpc_error("RESOURCE_EXHAUSTED", details, still_connected=True, model="xl")
    assert (found.code, found.message) == ("invalid_image", "The provider's answer has more than 10 MB")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.9.1:50051", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("grpc.stability.ai:443", False),
        ("localhost.example.org:443", False),
        ("127.0.0.1.example.org:443", False),
        ("10.0.0.1:443", False),
        ("0.0.0.0:443", False),
        ("grpc.stability.ai", False),
        ("", False),
    ],
)
def test_only_this_machine_is_spoken_to_in_the_clear(host: str, here: bool) -> None:
    assert is_loopback(host) is here
