"""Ends a child process as soon as its parent has ended, even if the parent was killed."""

from __future__ import annotations

import os
import sys
import threading
import time

_LOOK = 1.0  # seconds between checks, on systems that cannot report the parent's end


def end_with_parent() -> None:
    """Start a thread that ends this process as soon as its parent has ended.

    Linux's PR_SET_PDEATHSIG is not used: it watches only the parent's thread that started this process. That thread may
    end before the parent.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), name="ecellm-lite parent", daemon=True).start()


def _watch(parent: int) -> None:
    if sys.platform == "win32":
        _wait_on_windows(parent)
    else:
        _wait(parent)
    os._exit(0)


def _wait(parent: int) -> None:
    if hasattr(os, "pidfd_open"):
        import select

        try:
            descriptor = os.pidfd_open(parent)
        except OSError:  # the kernel has no pidfd_open, or a sandbox forbids it
            pass
        else:
            if os.getppid() == parent:  # otherwise the parent ended before it could be watched
                select.select([descriptor], [], [])
            return
    while os.getppid() == parent:
        time.sleep(_LOOK)


def _wait_on_windows(parent: int) -> None:
    import ctypes

    synchronize, infinite = 0x00100000, 0xFFFFFFFF
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(synchronize, False, parent)
    if handle:
        kernel.WaitForSingleObject(ctypes.c_void_p(handle), infinite)
