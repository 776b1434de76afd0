"""Remembers whether the prompt kernels passed their trial.

The trial checks that the kernels run here and compute nearly the same results as ggml (see trial.py). It runs in a
child process: once, and again if the processor, the variant or a library changes.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ecellm_lite import ggml
from ecellm_lite.backends import library_path
from ecellm_lite.errors import EcellmError
from ecellm_lite.home import home

_SECONDS = 120  # the trial takes one second, more on a busy machine
# The signals of a library that does not fit. Other signals, such as that of an out-of-memory kill, say nothing about
# the library.
_CRASHES = {-signal.SIGILL, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGSEGV}

_LARGEST = 1 << 16  # bytes of the file of verdicts


def refusal(place: Path, variant: str) -> str:
    """Return why the kernels cannot be used, or an empty text if they passed their trial.

    `place` is the path of the kernels' library, and `variant` is the name of the variant to use.

    Raises EcellmError if the trial did not give a verdict. The error's message is the reason.
    """
    file = home() / "prompt_kernels.json"
    key = _key(place, variant)
    verdicts = _read(file)
    if key not in verdicts:
        verdicts = {key: _ask(place, variant)}  # drops the verdicts of other versions
        with suppress(OSError):  # if the store is read-only, the next start repeats the trial
            _write(file, verdicts)
    return verdicts[key]


def _ask(place: Path, variant: str) -> str:
    """Try the kernels in a child process. Return why they cannot be used, or an empty text if they passed the trial.

    Raises EcellmError if the trial did not finish and should be repeated. The error's message is the reason.
    """
    if not sys.executable:
        raise EcellmError("their trial needs a Python interpreter to run in")
    command = [sys.executable, "-m", "ecellm_lite.kernels.prompt", str(place), variant]
    try:
        child = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EcellmError(f"their trial could not be run ({error})") from None
    if child.returncode in _CRASHES:
        return f"their trial was ended by {signal.Signals(-child.returncode).name}"
    if child.returncode:
        raise EcellmError(f"their trial ended with exit code {child.returncode}")
    return child.stdout.decode("utf-8", "replace").strip()


def _key(place: Path, variant: str) -> str:
    """Return a hash of everything that a trial's result depends on, such as the processor and the libraries."""
    facts = [variant, ggml.version(), platform.processor() or platform.machine(), ggml.system_info()]
    for library in (place, *sorted(library_path().parent.glob("libggml*"))):
        status = library.stat()
        facts += [str(library), str(status.st_size), str(status.st_mtime_ns)]
    return sha256("\n".join(facts).encode()).hexdigest()


def _read(file: Path) -> dict[str, str]:
    try:
        if file.stat().st_size > _LARGEST:
            return {}
        verdicts = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    fits = isinstance(verdicts, dict) and all(isinstance(verdict, str) for verdict in verdicts.values())
    return verdicts if fits else {}


def _write(file: Path, verdicts: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.write_text(json.dumps(verdicts), "utf-8")
    new.replace(file)
