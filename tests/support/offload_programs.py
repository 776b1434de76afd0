"""Programs that `doctor --offload` runs in place of its own child process: they answer, fail, crash or hang."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import pytest

from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.cli.main import run_command
from ecellm_lite.doctor_offload import comparison
from ecellm_lite.doctor_offload.comparison import compare
from ecellm_lite.errors import InputError

# On Windows a crash is an exit code, not a signal.
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


_FAILED = Answer.failed(
    "sentiment_analysis", InputError(""), model=ModelName("shop", "0" * 64), envelope="alpaca", row={}
)
_ANSWER = {
    **_FAILED.as_dict(),
    "value": "B",
    "probabilities": {"A": 0.25, "B": 0.75},
    "seconds": 0.25,
    "error": None,
}
_PLACEMENT = {"description": "2 of 2 layers on GPU0", "gpu_layers": 2}

_START = f"""
import json, sys, time
asked = json.loads(sys.argv[1])
def say(**message):
    print(json.dumps(message), flush=True)
def load(name="shop", placement={_PLACEMENT}):
    say(type="ready", model={{"name": name, "sha256": "", "envelope": "alpaca", "placement": placement}})
def answer(**changes):
    say(type="answer", id=json.loads(sys.stdin.readline())["id"], answer={{**{_ANSWER}, **changes}})
def fail(code, message):
    say(type="error", id=None, error={{"code": code, "message": message}})
def serve(placement={_PLACEMENT}, **changes):
    load(placement=placement)
    answer()
    answer(**changes)
    sys.stdin.readline()
"""


def python(code: str, *arguments: str) -> list[str]:
    """Return a command that runs Python code. In the code, the variable `asked` has the settings that doctor sent."""
    return [sys.executable, "-X", "faulthandler", "-c", _START + code, *arguments]


CRASH = "import faulthandler; print('CUDA error: out of luck', file=sys.stderr, flush=True); faulthandler._sigsegv()"

# The real program, which takes llama.cpp's CPU for a GPU and uses one core (others may be busy); `{}` runs first.
STAND_IN = """
from ecellm_lite.devices import devices
from ecellm_lite.pipe.__main__ import main
from ecellm_lite.engine import llama, weights
weights.gpus = lambda _: [device for device in devices() if device.kind == "cpu"]
llama.available_cores = lambda: 1
{}
main()
"""

# A program without a model that answers for the other placement.
ANSWER = "serve()"


def on(placement: str, code: str, other: str = ANSWER) -> list[str]:
    """Return a command that runs `code` if the layers are on `placement` ("gpu" or "cpu").

    Otherwise it runs `other`.
    """
    there = "asked['gpu_layers'] " + ("== 'all'" if placement == "gpu" else "== 0")
    return python(f"if {there}:\n    {code}\nelse:\n    {other}")


def doctor(monkeypatch: pytest.MonkeyPatch, program: Sequence[str], *arguments: str, seconds: float = 60.0) -> int:
    """Run `doctor --offload` with another program as its child process, and return the exit code."""
    monkeypatch.setattr(comparison, "compare", partial(compare, program=program, seconds=seconds))
    return run_command(["doctor", "--offload", *arguments])


def failed(code: str, message: str = "llama.cpp cannot load it: convert it again.") -> str:
    """Return Python code that sends `doctor` an error with this error code and message."""
    return f"fail({code!r}, {message!r})"
