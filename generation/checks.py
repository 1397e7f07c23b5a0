"""System checks: combinations of settings that cannot work, found before the first request."""

from __future__ import annotations
