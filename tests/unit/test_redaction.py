"""Secrets are hidden before text is written."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from generation.access.api_keys import new_secret
from generation.telemetry.redaction import Redactor


@pytest.mark.parametrize("around", ["{}", "Bearer {}", "GET /v1/models?key={}&a=b", "'{}'", '{{"key": "{}"}}'])
def test_the_secret_of_an_api_key_is_hidden(around: str) -> None:
    secret = new_secret("k3V9x2M7")
    shown = Redactor([])(around.format(secret))
    assert secret[14:] not in shown
    assert shown == around.format("vgsk_k3V9x2M7_[hidden]")


def test_the_secret_of_a_webhook_is_hidden() -> None:
    assert Redactor([])("secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo= of") == "secret whsec_[hidden] of"


@pytest.mark.parametrize(
    "detail",
    [
        "Failing row contains (vgd_1, https://example.org/?t=secret1, A dragon.\nsecret2 line, null).",
        "Key (unique_key)=(vgw_1 secret1) already exists.",
    ],
)
@pytest.mark.parametrize("render", [str, json.dumps], ids=["plain", "JSON"])
def test_the_values_of_a_row_in_an_error_are_hidden(detail: str, render: Callable[[str], str]) -> None:
    error = f'null value in column "host" violates not-null constraint\nDETAIL:  {detail}\nCONTEXT:  the statement'
    line = Redactor([])(render(error))
    assert "secret" not in line
    assert "violates not-null constraint" in line
    assert "CONTEXT:  the statement" in line
