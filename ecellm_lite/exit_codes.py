"""Says in words how a process ended."""

from __future__ import annotations

import signal

# By name, because Python defines only the signals of its own system.
_SIGNALS = {
    "SIGABRT": "llama.cpp or a driver gave up",
    "SIGBUS": "a crash in native code",
    "SIGFPE": "a crash in native code",
    "SIGILL": "an instruction that this processor does not have",
    "SIGKILL": "the system does that when memory runs out",
    "SIGSEGV": "a crash in native code",
}

# Windows has no signals: a crash shows as an exit code that is an NTSTATUS of ntstatus.h.
_STATUSES = {
    0xC0000005: "an access violation, a crash in native code",
    0xC000001D: "an instruction that this processor does not have",
    0xC00000FD: "a stack overflow, a crash in native code",
    0xC0000409: "llama.cpp or a driver gave up",
}


def ending(code: int) -> str:
    """Describe the exit code of a subprocess. For example, -9 gives "was killed by SIGKILL"; 0 gives an empty text.

    `code` is negative if a signal ended the process. It is an NTSTATUS if Windows stopped the process.
    """
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        meaning = _SIGNALS.get(name)
        return f"was killed by {name}" + (f" ({meaning})" if meaning else "")
    if code in _STATUSES:
        return f"ended with exit code 0x{code:08X} ({_STATUSES[code]})"
    return f"ended with exit code {code}" if code else ""
