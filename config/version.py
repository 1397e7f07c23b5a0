"""The version of the product: the only place that states it."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
