"""Tests that the model uses only the cores that other programs leave free, or all cores if none is free."""

from __future__ import annotations

import sys

import pytest

from ecellm_lite.engine.threads import Machine, Threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how many threads want a core")


class Office(Machine):
    """A simulated machine. `programs`: how many other programs run on it. `used`: how many cores they keep busy."""

    def __init__(self, cores: int = 4) -> None:
        self.cores = cores
        self.programs = 0
        self.used = 0.0
        self._time = self._seconds = 0.0

    def clock(self) -> float:
        self._time += 0.1
        self._seconds += 0.1 * self.used
        return self._time

    def seconds(self) -> float:
        return self._seconds

    def running(self) -> int:
        return self.programs


def watched(threads: Threads, machine: Office, programs: int, used: float) -> int:
    """Update `threads` ten times, and return the number of threads that it then chooses.

    Meanwhile, `programs` other programs keep `used` cores busy.
    """
    machine.programs, machine.used = programs, used
    for _ in range(10):
        threads.update()
    return threads.count


@pytest.mark.parametrize(
    ("most", "programs", "used", "count"),
    [
        (4, 1, 1.0, 3),
        (4, 3, 2.9, 1),
        (4, 4, 2.1, 4),  # they could fill all cores
        (4, 90, 3.8, 4),
        (2, 1, 1.0, 2),
        (2, 3, 3.0, 1),
        (1, 3, 3.0, 1),
        (8, 2, 2.0, 2),
    ],
)
def test_cores_used_by_other_programs_are_left_to_them_unless_all_are_busy(
    most: int, programs: int, used: float, count: int
) -> None:
    machine = Office()
    threads = Threads(most, machine=machine)
    assert threads.count == most
    assert watched(threads, machine, programs, used) == count
    assert watched(threads, machine, 0, 0.0) == most


def test_a_short_running_program_does_not_change_the_threads() -> None:
    machine = Office()
    assert watched(Threads(4, machine=machine), machine, 3, 0.3) == 4


def test_a_fixed_number_of_threads_does_not_change() -> None:
    machine = Office()
    assert watched(Threads(4, fixed=True, machine=machine), machine, 3, 3.0) == 4


def test_this_machine_reports_its_load() -> None:
    machine = Machine()
    before = machine.seconds()
    assert machine.running() >= 0
    assert machine.seconds() - before > -0.1  # the system counts in hundredths of a second
    assert machine.cores >= 1
