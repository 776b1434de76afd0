"""Runs `ecellm-lite serve` with the fake engine in a child process, which first prints the number of its port."""

from __future__ import annotations

import sys

from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.serve.app import create_app
from ecellm_lite.serve.fleet import Fleet
from ecellm_lite.serve.limits import Limits
from ecellm_lite.serve.listening import listen
from ecellm_lite.serve.server import run
from ecellm_lite.serve.service import Service
from tests.pipe.host import FAKE_PIPE

if __name__ == "__main__":
    limits = Limits(drain_seconds=20)
    listening = listen("127.0.0.1", 0)
    with ChildRuntime(command=FAKE_PIPE) as child:
        sys.stdout.write(f"{listening.socket.getsockname()[1]} {child.pid}\n")
        sys.stdout.flush()
        run(create_app(Service(Fleet.of(child), limits, aliases=["jev-*"]), listening.access()), listening, limits)
