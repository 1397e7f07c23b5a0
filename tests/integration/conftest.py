"""The vendors of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.control import FakeProvider
from tests.support.vendors import Vendors, vendors_at


@pytest.fixture(scope="module")
def fake_vendors() -> Iterator[FakeProvider]:
    """One process for all of them."""
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def vendors(fake_vendors: FakeProvider, settings: Any, empty_queues: None) -> Iterator[Vendors]:
    """A worker that may ask OpenAI, Stability and the built-in provider, in this order."""
    with vendors_at(fake_vendors, settings) as vendors:
        yield vendors
