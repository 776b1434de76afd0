"""Runs `ecellm-lite mcp` with the fake engine in a child process."""

from __future__ import annotations

import asyncio

from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.serve.mcp_tools import serve
from tests.pipe.host import FAKE_PIPE

if __name__ == "__main__":
    with ChildRuntime(command=FAKE_PIPE) as child:
        asyncio.run(serve(child))
