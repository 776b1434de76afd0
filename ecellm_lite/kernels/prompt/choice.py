"""Whether prompts are read by the prompt kernels in this process, and by which variant."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from ecellm_lite import ggml
from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.kernels.prompt import library, verdict

CHOICES = ("auto", "off", "avx2")

# What llama.cpp says of a build that uses these: it is faster there, and the kernels were not measured against it.
_NOT_MEASURED = ("AVX512", "AVX_VNNI", "AMX_INT8")


@dataclass(frozen=True, slots=True)
class State:
    """The variant in use, empty where llama.cpp computes by itself; `reason` says why then."""

    variant: str
    reason: str = ""


def start(choice: str = "auto") -> State:
    """Return the state for what is wanted, a name of CHOICES; `auto` is ECELLM_PROMPT_KERNELS where that is set.

    The first call that is not `off` makes the kernels known to ggml, which must be before a model is loaded. Raises
    UsageError for a name that is not in CHOICES. Where the kernels cannot be used, that is a state, not an error.
    """
    if choice == "auto":
        choice = os.environ.get("ECELLM_PROMPT_KERNELS") or "auto"
        if choice not in CHOICES:
            raise UsageError(
                f"ECELLM_PROMPT_KERNELS is {choice!r}", step=f"take one of {', '.join(CHOICES)}, or leave it unset"
            )
    if choice not in CHOICES:
        raise UsageError(
            f"prompt_kernels is {choice!r}", step=f"take one of {', '.join(CHOICES)}", settings=("prompt_kernels",)
        )
    if choice == "off":
        return State("", "they are switched off")
    try:
        return _registered(_variant(choice))
    except EcellmError as error:
        return State("", error.message)


def use(state: State) -> None:
    """Say whether llama.cpp's next calls by this thread may use the kernels."""
    if _registered.cache_info().currsize:
        library.library(library.path()).ecellm_prompt_use(int(bool(state.variant)))


def _variant(choice: str) -> str:
    """Return the variant to use; raises EcellmError, with the reason alone as its message, if there is none."""
    variants = library.variants(library.library(library.path()))
    if choice != "auto":
        if choice not in variants:
            raise EcellmError(f"this processor does not run {choice}")
        return choice
    if not variants:
        raise EcellmError("this processor does not run them")
    flags = ggml.system_info()
    if newer := [name for name in _NOT_MEASURED if f"{name} = 1" in flags]:
        raise EcellmError(f"they are not measured on a processor with {' and '.join(newer)}")
    return variants[0]


@cache
def _registered(variant: str) -> State:
    """Make the kernels a back end of ggml's for the rest of this process, if they pass."""
    ggml.start_library()
    place = library.path()
    native = library.library(place)
    try:
        if not library.shares_threads(native):
            raise EcellmError("llama.cpp's threads are not those of this machine's OpenMP")
        if refusal := verdict.refusal(place, variant):
            raise EcellmError(refusal)
        library.register(native, place, variant)
    except EcellmError as error:
        return State("", error.message)
    return State(variant)
