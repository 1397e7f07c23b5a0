"""How long tests take that could go on for ever."""

from __future__ import annotations

import os

#: Set to ``full``, what lasts takes as long as it would in earnest (``make faults``).
FULL = os.environ.get("FAULTS") == "full"


def lasting(short: float, *, full: float) -> float:
    """How long, or how often: so much in the everyday suite, and so much in full."""
    return full if FULL else short
