"""Processes that end with the one that started them, also where that is killed. Only Linux can."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Looked up here, since the call may be made between fork and exec.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies.

    The kernel sends the signal once for each thread of the parent, in quick succession. Handlers of SIGTERM do not
    survive that, granian's among them, which then neither serves nor ends; so it is SIGKILL.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
