"""What a run is to measure, and with how much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peer import Peer
from benchmarks.turns import SLICES


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``folder`` is for what is thrown away at the end; ``say`` tells a person how far it is. ``requests`` are the rows
    of the full table, ``queued`` how many of them wait, ``staff_requests`` the rows under the staff's pages, and
    ``images`` the real images over which a worker's memory is watched. ``litellm`` says whether to compare with its
    proxy. A ``quick`` run shows that everything works, and its figures are not for comparing."""

    folder: Path
    say: Callable[[str], None]
    requests: int
    queued: int
    staff_requests: int
    images: int
    quick: bool = False
    peer: Peer | None = None
    litellm: bool = True

    @property
    def slices(self) -> int:
        """How often each case takes its turn."""
        return 1 if self.quick else SLICES

    def size(self, full: int, quick: int) -> int:
        """How many of something."""
        return quick if self.quick else full
