"""A finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Maximum number of ids per finding.
MOST: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A problem that needs staff: what is wrong, why, a command or action as remedy, and the ids that are affected."""

    what: str
    why: str
    remedy: str
    ids: tuple[str, ...] = ()


def how_many(ids: list[str]) -> str:
    """Return the number of ids in words, which were selected up to :data:`MOST`."""
    return f"{len(ids)} or more" if len(ids) == MOST else str(len(ids))
