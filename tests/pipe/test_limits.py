"""Tests the limits on a process's memory, priority and cores, in child processes.

The limits on priority and cores must apply to all threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ecellm_lite import UsageError
from ecellm_lite.cli.forms import Cores
from ecellm_lite.errors import EcellmError
from ecellm_lite.models.store import StoredModel
from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.pipe.limits import use_only_cores
from tests.pipe.host import ROOT, converse

COMMAND = [sys.executable, "-c", "from ecellm_lite.cli.entry import main; main()", "pipe"]

# Two threads, of which one is there before, and one begins after.
THREADS = """
import os, threading, time
from ecellm_lite.pipe.limits import use_only_cores, lower_priority
rest = threading.Event()
threading.Thread(target=rest.wait, daemon=True).start()
core = max(os.sched_getaffinity(0))
use_only_cores({cores})
lower_priority(7)
threading.Thread(target=rest.wait, daemon=True).start()
tasks = [int(name) for name in os.listdir("/proc/self/task")]
print(len(tasks), [os.sched_getaffinity(task) for task in tasks].count({{core}}),
      [os.getpriority(os.PRIO_PROCESS, task) for task in tasks].count(7))
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="only there each thread has cores of its own")


@linux
@pytest.mark.parametrize("cores", ["1", "[core]"])
def test_the_number_of_threads_follows_the_cores(cores: str) -> None:
    program = THREADS.format(cores=cores)
    counts = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert counts.stdout.split() == ["3", "3", "3"]


@linux
@pytest.mark.parametrize("cores", [0, -1, [], [4095]])
def test_missing_cores_are_refused(cores: int | list[int]) -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(UsageError):
        use_only_cores(cores)
    assert os.sched_getaffinity(0) == before


def test_cores_are_a_number_or_a_list() -> None:
    kind = Cores()
    assert kind.convert("3", None, None) == 3
    assert kind.convert("3,", None, None) == [3]
    assert kind.convert("0,2-4,2", None, None) == [0, 2, 3, 4]
    for wrong in ("0x1", "", "-1", "1-", "a", ",", "1,,2"):
        with pytest.raises(click.BadParameter):
            kind.convert(wrong, None, None)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
def test_a_model_larger_than_the_memory_limit_is_one_error(demo_model: StoredModel) -> None:
    with pytest.raises(EcellmError):
        ChildRuntime(demo_model.path, envelope="alpaca", memory_bytes=1 << 24, prompt_kernels="off")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
def test_too_little_memory_for_the_engine_is_the_first_line(demo_model: StoredModel) -> None:
    command = [*COMMAND, "--model", str(demo_model.path), "--envelope", "alpaca", "--memory-bytes", str(1 << 24)]
    ended = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, check=False)
    line = json.loads(ended.stdout)
    assert (ended.returncode, line["type"], line["id"], line["error"]["code"]) == (1, "error", None, "internal")


def test_the_command_serves_a_model_under_all_limits(demo_model: StoredModel, tmp_path: Path) -> None:
    model = ["--model", str(demo_model.path), "--envelope", "alpaca"]
    command = [
        *COMMAND,
        *model,
        "--lazy",
        "--idle",
        "60",
        "--cores",
        "1",
        "--nice",
        "3",
        "--memory-bytes",
        str(1 << 33),
    ]
    request = {"id": 1, "task": "sentiment_analysis", "row": {"review": "It works."}}
    [answer] = converse([request], command)
    assert answer["answer"]["error"] is None
