"""Secrets are hidden before text is written."""

from __future__ import annotations

import pytest

from generation.access.api_keys import new_secret
from generation.telemetry.redaction import Redactor


@pytest.mark.parametrize("around", ["{}", "Bearer {}", "GET /v1/models?key={}&a=b", "'{}'", '{{"key": "{}"}}'])
def test_the_secret_of_an_api_key_is_hidden(around: str) -> None:
    secret = new_secret("k3V9x2M7")
    shown = Redactor([])(around.format(secret))
    assert secret[14:] not in shown
    assert shown == around.format("vgsk_k3V9x2M7_[hidden]")
