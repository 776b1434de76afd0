"""Limits on the memory, the priority and the cores of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ecellm_lite.errors import UsageError


def limit_memory(memory_bytes: int) -> None:
    """Limit how many bytes this process may allocate. The memory-mapped model file does not count."""
    if sys.platform == "win32":
        raise UsageError("Memory cannot be limited on this system", settings=("memory_bytes",))
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        memory_bytes = min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, most))


def lower_priority(nice: int) -> None:
    """Lower the priority of this process. `nice` is a level from 0 (unchanged) to 19 (lowest)."""
    if sys.platform == "win32":
        import psutil

        level = psutil.BELOW_NORMAL_PRIORITY_CLASS if nice < 10 else psutil.IDLE_PRIORITY_CLASS
        psutil.Process().nice(level)
    else:
        for thread in _threads():
            lowest = max(nice, os.getpriority(os.PRIO_PROCESS, thread))  # a lower priority may not be raised
            os.setpriority(os.PRIO_PROCESS, thread, lowest)
        if os.getsid(0) == os.getpid():
            # Where Linux groups processes by session, nice levels count only within one (autogroup in sched(7)).
            with suppress(OSError):
                Path("/proc/self/autogroup").write_text(str(nice), "ascii")


def use_only_cores(cores: int | Sequence[int]) -> None:
    """Limit this process to some cores: the last `cores` cores if `cores` is a number, or the cores in the list."""
    import psutil

    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        raise UsageError("Cores cannot be chosen on this system", settings=("cores",))
    allowed = sorted(process.cpu_affinity())
    chosen = (allowed[-cores:] if cores > 0 else []) if isinstance(cores, int) else sorted(cores)
    if not chosen or not set(chosen) <= set(allowed):
        numbers = ", ".join(map(str, allowed))
        raise UsageError(
            f"cores is {cores}",
            step=f"give the number of cores, or a list with some of the cores {numbers}",
            settings=("cores",),
        )
    if hasattr(os, "sched_setaffinity"):
        for thread in _threads():
            os.sched_setaffinity(thread, chosen)
    else:
        process.cpu_affinity(chosen)


def _threads() -> list[int]:
    """Return the ids of this process's threads.

    On systems other than Linux, return [0], which stands for the whole process.
    """
    try:
        return [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
    except OSError:
        return [0]
