"""What all listeners of a fake share: the script, the journal, who is held, and which connections there were."""

from __future__ import annotations

import asyncio

from tests.fakes.journal import Journal
from tests.fakes.script import Script


class Stage:
    """One for each process."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.script = Script()
        self.released = asyncio.Event()
        self.connections = 0

    def next_connection(self) -> int:
        """The number of a connection that carries its first call."""
        self.connections += 1
        return self.connections

    def release(self) -> None:
        """Let the calls that are held go on; who is held from now on waits for the next release."""
        self.released.set()
        self.released = asyncio.Event()

    def reset(self) -> None:
        """Forget script and journal."""
        self.script.reset()
        self.journal.reset()
        self.connections = 0
