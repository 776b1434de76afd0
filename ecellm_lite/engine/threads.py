"""Decides how many threads a call of the model uses: fewer while other programs keep cores busy."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil

_WINDOW = 0.25  # seconds over which the others' use of the cores is averaged
_NAP = 0.0002  # seconds after which the threads of a call sleep


class Machine:
    """Measures how busy other processes keep this machine."""

    cores = psutil.cpu_count() or 1

    def clock(self) -> float:
        """Return the time in seconds."""
        return time.monotonic()

    def seconds(self) -> float:
        """Return the seconds of processor time that other processes have used so far."""
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + times.irq + times.softirq
        return float(busy) - time.process_time()

    def running(self) -> int:
        """Return how many threads of other processes want a core at this moment.

        The number is right only while all other threads of this process sleep.
        """
        time.sleep(_NAP)
        # Before the slash there are all of the system.
        return int(Path("/proc/loadavg").read_text("ascii").split()[3].split("/")[0]) - 1


class Threads:
    """Chooses the number of threads for each call of the model, at most `most`.

    The threads of a call wait for each other hundreds of times. A thread that shares its core with a busy program
    delays all other threads. So the call leaves as many cores free as other programs use. If other programs keep all
    cores busy, no core can be left free, and the call uses `most` threads (see benchmarks/neighbours.py).

    With `fixed`, and on systems other than Linux, each call uses `most` threads.
    """

    def __init__(self, most: int, *, fixed: bool = False, machine: Machine | None = None) -> None:
        self.count = self._most = most
        self._machine = machine or Machine()
        self._fixed = fixed or most == 1 or sys.platform != "linux"
        if not self._fixed:
            self._since, self._seconds = self._machine.clock(), self._machine.seconds()

    def update(self) -> None:
        """Set `count`, the number of threads for the next call, from the load of other programs."""
        if self._fixed:
            return
        now = self._machine.clock()
        if now < self._since + _WINDOW:
            return
        seconds = self._machine.seconds()
        busy = round((seconds - self._seconds) / (now - self._since))
        self._since, self._seconds = now, seconds
        if busy > 0:  # two programs that share a core keep one busy, so their use alone does not tell how many want one
            busy = max(busy, self._machine.running())
        self.count = min(self._most, self._machine.cores - busy) if 0 < busy < self._machine.cores else self._most
