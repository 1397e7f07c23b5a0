"""Let processes end with their parent, also if it is killed. Linux only."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

_PR_SET_PDEATHSIG = 1
# Loaded here, since the call may come between fork and exec.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with_parent(parent: int, *, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent, which has this id, dies.

    The kernel sends the signal once for each thread of the parent, in quick succession. Handlers of SIGTERM do not
    survive that: granian's then neither serves nor ends. So the default is SIGKILL. For a parent that died before this
    call the kernel sends nothing.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, by)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def ending_with_this() -> Callable[[], None]:
    """Return a ``preexec_fn`` with which a started process ends with this one."""
    return partial(end_with_parent, os.getpid())
