"""Limits on the memory and the priority of this process."""

from __future__ import annotations

import os
import sys

from ecellm_lite.errors import UsageError


def limit_memory(memory_bytes: int) -> None:
    """Limit how many bytes this process may allocate; a mapped model file does not count."""
    if sys.platform == "win32":
        raise UsageError("Memory cannot be limited on this system", settings=("memory_bytes",))
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        memory_bytes = min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, most))


def lower_priority(nice: int) -> None:
    """Lower the priority of this process by a nice level from 0 to 19."""
    import psutil

    process = psutil.Process(os.getpid())
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if nice < 10 else psutil.IDLE_PRIORITY_CLASS)
    else:
        process.nice(nice)
