"""Decides whether the prompt kernels run in this process, and which variant of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

from ecellm_lite import ggml
from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.kernels.prompt import library, verdict

CHOICES = ("auto", "off", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon")

# The variants that were measured on a real processor. `auto` never chooses the others, which ran in an emulator only.
# A tuning may choose them for a model, because it measures them.
_MEASURED = ("amx", "avx512vnni", "avx512", "avxvnni", "avx2")

# The flag of a llama.cpp that uses AMX itself. The kernels were not measured next to it.
_OTHER_AMX = "AMX_INT8"


@dataclass(frozen=True, slots=True)
class State:
    """Whether the prompt kernels are in use, and which variant of them.

    `variant`: the variant's name. It is empty if llama.cpp uses its own kernels instead.
    `reason`: why the prompt kernels are not used.
    `unmeasured`: whether the kernels are off because nobody has measured whether they are faster here.
    """

    variant: str
    reason: str = ""
    unmeasured: bool = False


class _UnmeasuredError(EcellmError):
    """Nobody has measured the kernels on this kind of processor, or with this kind of llama.cpp build."""


OFF = State("", "they are switched off")


class Mode(IntEnum):
    """Which computations of llama.cpp the kernels do. The values are those of the C enum ecellm_prompt_mode.

    `FAST`: only those that the kernels do faster than ggml.
    `STABLE`: all those in which ggml could make a row's logits depend on the other rows of a call.
    `STABLE_LOADED`: the same as `STABLE`, for calls after saved sequences were loaded into an empty KV memory.
    """

    FAST = 1
    STABLE = 2
    STABLE_LOADED = 3


def start(choice: str = "auto") -> State:
    """Start the kernels according to `choice`, one of CHOICES, and return their state.

    `auto` uses ECELLM_PROMPT_KERNELS if it is set. The first call with a choice other than `off` registers the kernels
    with ggml, so it must come before a model is loaded. Several variants may be in use in one process.

    Raises UsageError for a name that is not in CHOICES. If the kernels cannot run here, the State has the reason, and
    no error is raised.
    """
    if choice == "auto":
        choice = os.environ.get("ECELLM_PROMPT_KERNELS") or "auto"
        if choice not in CHOICES:
            raise UsageError(
                f"ECELLM_PROMPT_KERNELS is {choice!r}", step=f"choose one of {', '.join(CHOICES)}, or leave it unset"
            )
    if choice not in CHOICES:
        raise UsageError(
            f"prompt_kernels is {choice!r}", step=f"choose one of {', '.join(CHOICES)}", settings=("prompt_kernels",)
        )
    if choice == "off":
        return OFF
    try:
        return _registered(_variant(choice))
    except EcellmError as error:
        return State("", error.message, unmeasured=isinstance(error, _UnmeasuredError))


def automatic() -> str:
    """Return what the choice `auto` uses on this machine: a variant, or `off`."""
    return start().variant or "off"


def is_set() -> bool:
    """Return whether the environment variable ECELLM_PROMPT_KERNELS is set. If so, the choice `auto` uses its value."""
    return bool(os.environ.get("ECELLM_PROMPT_KERNELS"))


def runnable() -> tuple[str, ...]:
    """Return the values that the setting `prompt_kernels` can have on this machine, besides `auto`.

    These are the variants that this processor runs, and `off`.
    """
    try:
        return (*library.variants(library.library(library.path())), "off")
    except EcellmError:
        return ("off",)


def use(state: State, mode: Mode = Mode.FAST) -> None:
    """Turn the kernels on for this thread's next calls of llama.cpp, or off if `state` has no variant.

    The caller must turn them off again after these calls. If other code in this thread makes a llama.cpp context while
    they are on, and leaves flash attention at `auto`, the context gets no flash attention.
    """
    if _registered.cache_info().currsize:
        library.library(library.path()).ecellm_prompt_use(state.variant.encode(), mode if state.variant else 0)


def declined() -> str:
    """Return the name of an operation that the kernels left to ggml, although a stable mode forbids this.

    The stable modes are STABLE and STABLE_LOADED. In these modes, the kernels must compute each operation in which
    ggml's result could depend on the other rows of a call. The name is empty if there was no such operation since this
    thread last called `use` with a stable mode.
    """
    number = int(library.library(library.path()).ecellm_prompt_declined())
    return "" if number < 0 else ggml.operation(number)


def _variant(choice: str) -> str:
    """Return the variant to use. Raises EcellmError if there is none; the error's message is the reason."""
    variants = library.variants(library.library(library.path()))
    if choice != "auto":
        if choice not in variants:
            raise EcellmError(f"this processor does not run {choice}")
        return choice
    if not variants:
        raise EcellmError("this processor does not run them")
    if variants[0] not in _MEASURED:
        raise _UnmeasuredError(f"{variants[0]} was tested in an emulator only and never measured")
    if f"{_OTHER_AMX} = 1" in ggml.system_info():
        raise _UnmeasuredError(f"they were not measured next to a llama.cpp that uses {_OTHER_AMX}")
    return variants[0]


@cache
def _registered(variant: str) -> State:
    """Test a variant of the kernels. If it passes, register the kernels as a ggml back end until this process ends."""
    ggml.start_library()
    place = library.path()
    native = library.library(place)
    try:
        if not library.shares_threads(native):
            raise EcellmError("llama.cpp does not use this machine's OpenMP threads")
        if refusal := verdict.refusal(place, variant):
            raise EcellmError(refusal)
        _load(place)
    except EcellmError as error:
        return State("", error.message)
    return State(variant)


@cache
def _load(place: Path) -> None:
    """Register the library with ggml, once for all of its variants."""
    library.register(library.library(place), place)
