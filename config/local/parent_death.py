"""Processes that end with the one that started them, also where that is killed. Only Linux can."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

_PR_SET_PDEATHSIG = 1
# Looked up here, since the call may be made between fork and exec.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with_parent(parent: int, *, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent, which has this id, dies.

    The kernel sends the signal once for each thread of the parent, in quick succession. Handlers of SIGTERM do not
    survive that, granian's among them, which then neither serves nor ends; so it is SIGKILL by default. Of a parent
    that died before it was asked the kernel says nothing.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, by)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def ending_with_this() -> Callable[[], None]:
    """For ``preexec_fn``: what is started ends with this process."""
    return partial(end_with_parent, os.getpid())
