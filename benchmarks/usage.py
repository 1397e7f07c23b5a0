"""Processor time and memory of processes with all their children."""

from __future__ import annotations

import contextlib

import psutil


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process and of all its descendants, including those that have ended."""
    process = psutil.Process(pid)
    total = 0.0
    # The process comes last: the time of a child that ends meanwhile is added to its own.
    for one in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:4])
    return total


def own_processor_seconds(pid: int) -> float:
    """Return the processor time of a process without its children."""
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


def proportional_memory(pid: int) -> float:
    """Return the proportional set size of a process and its descendants, in MB. Memory that processes share counts once
    in total."""
    process = psutil.Process(pid)
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            total += one.memory_full_info().pss
    return total / 1e6
