"""Processor time and memory of processes with all their children."""

from __future__ import annotations

import contextlib

import psutil


def processor_seconds(pid: int) -> tuple[float, float]:
    """Return the processor time of a process, and that of all its descendants, including those that have ended."""
    process = psutil.Process(pid)
    descendants = 0.0
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            descendants += sum(child.cpu_times()[:4])
    # Last: the time of a child that ended meanwhile is added to its parent's.
    user, system, *ended = process.cpu_times()[:4]
    return user + system, descendants + sum(ended)


def proportional_memory(pid: int) -> float:
    """Return the proportional set size of a process and its descendants, in MB. Memory that processes share counts once
    in total."""
    process = psutil.Process(pid)
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            total += one.memory_full_info().pss
    return total / 1e6
