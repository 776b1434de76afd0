"""Tests in which cases llama.cpp uses the prompt kernels (our faster matrix products and attention).

Also tests the kernels' self-checks.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecellm_lite import ggml
from ecellm_lite.binding import llama
from ecellm_lite.cli.main import run_command
from ecellm_lite.cli.options import PROMPT_KERNELS
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.offload import Load, Placement
from ecellm_lite.engine.settings import Settings
from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.kernels.prompt import CHOICES, State, choice, library, runnable, start, trial
from ecellm_lite.models import tuning
from ecellm_lite.models.store import StoredModel
from tests.support.prompt_variants import native_variants
from tests.support.refusals import refusal

KERNELS = Path(__file__).parent.parent.parent / "kernels" / "prompt"
NATIVE = Path(__file__).parent.parent / "native"


def state() -> State:
    try:
        return start(library.variants(library.library(library.path()))[0])
    except (EcellmError, IndexError):
        return State("", "")


@pytest.fixture(scope="module")
def variant() -> str:
    if not (name := state().variant):
        pytest.skip("the prompt kernels are not installed, or not for this machine")
    return name


def counts() -> tuple[int, int]:
    """Return how often the kernels have multiplied matrices in this process, and how often they computed attention."""
    native = library.library(library.path())
    return int(native.ecellm_prompt_products()), int(native.ecellm_prompt_attentions())


def test_prompts_are_read_with_and_without_the_kernels_in_turn(demo_model: StoredModel, variant: str) -> None:
    """A backend with the kernels and a backend without them answer alternately in the same process."""
    tokens = list(range(1000, 1040))
    settings = Settings(gpu_layers=0, context=256, threads=2, prompt_kernels=variant)
    ours = LlamaBackend(demo_model.path, settings)
    theirs = LlamaBackend(demo_model.path, replace(settings, prompt_kernels="off"))
    try:
        logits = []
        for backend, used in ((ours, True), (theirs, False), (ours, True)):
            backend.clear()
            before = counts()
            logits.append(backend.decode([Chunk(sequence=0, position=0, tokens=tokens, ask=1)])[0].copy())
            products, attentions = (now - old for now, old in zip(counts(), before, strict=True))
            assert (products > 200) == used  # seven products in each of 30 layers
            assert attentions == (30 if used else 0)
            before = counts()
            backend.decode([Chunk(sequence=0, position=len(tokens), tokens=[1234], ask=1)])
            products, attentions = (now - old for now, old in zip(counts(), before, strict=True))
            assert (products > 200) == used
            assert attentions == 0  # one token's is llama.cpp's own
    finally:
        ours.close()
        theirs.close()
    assert np.array_equal(logits[0], logits[2])
    assert np.corrcoef(logits[0], logits[1])[0, 1] > 0.99


def test_backends_of_one_process_have_their_own_variants(demo_model: StoredModel, variant: str) -> None:
    """In one process, each backend uses its own variant. Its logits do not depend on which backend ran before it."""
    variants = library.variants(library.library(library.path()))
    if len(variants) == 1:
        pytest.skip("this processor runs one variant only")
    backends = [
        LlamaBackend(demo_model.path, Settings(gpu_layers=0, context=256, prompt_kernels=name)) for name in variants
    ]
    chunk = Chunk(sequence=0, position=0, tokens=list(range(1000, 1040)), ask=1)
    try:
        assert [backend.prompt_kernels for backend in backends] == [State(name) for name in variants]
        before = [backend.decode([chunk])[0].copy() for backend in backends]
        for backend in backends:
            backend.clear()
        after = [backend.decode([chunk])[0].copy() for backend in reversed(backends)]
    finally:
        for backend in backends:
            backend.close()
    assert all(map(np.array_equal, before, reversed(after)))


@pytest.mark.parametrize("setting", [{"flash_attention": "off"}, {"kv_type": "q8_0"}])
def test_unsupported_attention_is_left_to_llama_cpp(
    demo_model: StoredModel, variant: str, setting: dict[str, Any]
) -> None:
    backend = LlamaBackend(demo_model.path, Settings(gpu_layers=0, context=256, prompt_kernels=variant, **setting))
    before = counts()
    backend.decode([Chunk(sequence=0, position=0, tokens=list(range(1000, 1040)), ask=1)])
    products, attentions = (now - old for now, old in zip(counts(), before, strict=True))
    backend.close()
    assert products > 200
    assert attentions == 0


def test_contexts_of_other_code_do_not_use_the_kernels(demo_model: StoredModel, variant: str) -> None:
    """A llama.cpp context made without LlamaBackend uses no kernels, even while a LlamaBackend with kernels is open."""
    backend = LlamaBackend(demo_model.path, Settings(gpu_layers=0, context=256, prompt_kernels=variant))
    backend.decode([Chunk(sequence=0, position=0, tokens=list(range(1000, 1040)), ask=1)])
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = 256
    context = llama.llama_init_from_model(backend._weights.pointer, parameters)
    before = counts()
    tokens = (llama.llama_token * 40)(*range(1000, 1040))
    assert llama.llama_decode(context, llama.llama_batch_get_one(tokens, 40)) == 0
    llama.llama_free(context)
    backend.close()
    assert counts() == before


def test_kernels_are_off_if_a_gpu_computes_layers(demo_model: StoredModel, variant: str) -> None:
    """llama.cpp may use the GPU for the layers on the CPU too. The GPU is then faster than the kernels."""
    backend = LlamaBackend(demo_model.path, Settings(gpu_layers=0, context=256, prompt_kernels=variant))
    assert backend.prompt_kernels == State(variant)
    backend.placement = Placement((Load("GPU0", free=1 << 30, layers=3),), "three layers on a GPU")
    assert backend.prompt_kernels.variant == ""
    backend.close()


@pytest.mark.parametrize("name", native_variants())
def test_the_trial_against_ggmls_graphs_passes(variant: str, name: str) -> None:
    trial.check(library.library(library.path()), name)


def test_a_trial_of_a_variant_for_another_processor_fails(variant: str) -> None:
    with pytest.raises(EcellmError):
        trial.check(library.library(library.path()), "mmx")


def test_a_trial_finds_wrong_attention(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = trial.attention
    monkeypatch.setattr(trial, "attention", lambda *operands: attention(*operands) * (operands[-1] == "CPU"))
    with refusal(EcellmError, "attention"):
        trial.check(library.library(library.path()), variant)


def test_the_kernels_are_chosen_by_setting_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start("off") == State("", "they are switched off")
    with pytest.raises(UsageError):
        start("fast")
    monkeypatch.setenv("ECELLM_PROMPT_KERNELS", "off")
    assert start("auto") == start("off")
    monkeypatch.setenv("ECELLM_PROMPT_KERNELS", "fast")
    with pytest.raises(UsageError):
        start("auto")
    assert run_command(["doctor"]) == 1


def test_a_llama_cpp_with_amx_uses_its_own_kernels(monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    monkeypatch.delenv("ECELLM_PROMPT_KERNELS", raising=False)
    monkeypatch.setattr(ggml, "system_info", lambda: "CPU : AVX2 = 1 | AVX512 = 1 | AMX_INT8 = 1")
    assert start("auto").variant == ""
    assert "AMX_INT8" in start("auto").reason
    assert start("auto").unmeasured
    assert start(variant).variant == variant


def test_the_fastest_variant_is_the_default(monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    monkeypatch.delenv("ECELLM_PROMPT_KERNELS", raising=False)
    monkeypatch.setattr(ggml, "system_info", lambda: "CPU : AVX2 = 1")
    fastest = next(
        (name for name in ("amx", "avx512vnni", "avx512", "avxvnni", "avx2") if name in choice.runnable()), ""
    )
    assert start("auto").variant == fastest


@pytest.mark.parametrize("name", ["neon"])
def test_a_variant_that_was_never_measured_is_used_only_by_name(
    monkeypatch: pytest.MonkeyPatch, variant: str, name: str
) -> None:
    monkeypatch.delenv("ECELLM_PROMPT_KERNELS", raising=False)
    monkeypatch.setattr(library, "variants", lambda _: [name])
    assert start("auto").variant == ""
    assert name in start("auto").reason
    assert choice._variant(name) == name


# What is changed in the source, and what the reason then names. The trial in a child process finds the last three.
DOCTORED = {
    "another version": ("ecellm_prompt.h", "PROMPT_VERSION 4", "PROMPT_VERSION 99", "version 99"),
    "a missing symbol": ("backend.cpp", "int ecellm_prompt_start(", "int ecellm_prompt_begin(", "ecellm_prompt_start"),
    "no processor": ("variants.cpp", "(*each)->runs()", "false", ""),
    "another API version": ("ggml_interface.h", "api_version = 2", "api_version = 99", ""),
    "another tensor": ("ggml_interface.h", "char padding[8]", "char padding[16]", ""),
    "wrong results": ("multiply.cpp", "", "", "%"),
    "a crash": ("multiply.cpp", "const size_t parts =", "if (panels) std::abort(); const size_t parts =", "SIGABRT"),
}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulate a process that has not looked for kernels yet, on a machine where no kernels were checked before."""
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ECELLM_PROMPT_KERNELS", raising=False)
    monkeypatch.setattr(ggml, "system_info", lambda: "CPU : AVX2 = 1")
    choice._registered.cache_clear()
    yield
    choice._registered.cache_clear()


@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")
@pytest.mark.parametrize("fault", DOCTORED)
def test_an_incompatible_library_is_not_used(
    fault: str,
    fresh: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, old, new, value = DOCTORED[fault]
    source = tmp_path / "source"
    shutil.copytree(KERNELS, source)
    text = (source / file).read_text("utf-8")
    assert old in text
    (source / file).write_text(text.replace(old, new) if old else text, "utf-8")
    place = tmp_path / "libdoctored.so"
    sources = [str(source / name) for name in ("backend.cpp", "multiply.cpp", "attention.cpp", "variants.cpp")]
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fopenmp", "-DECELLM_VARIANTS=VARIANT(avx2)", f"-I{source}"]
    command = ["g++", *options, *sources, str(NATIVE / "wrong_variant.cpp"), "-o", str(place)]
    subprocess.run(command, check=True)
    monkeypatch.setattr(library, "path", lambda: place)

    kernels = start("auto")
    assert kernels.variant == ""
    assert kernels.reason
    assert value in kernels.reason
    capsys.readouterr()
    assert run_command(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["prompt kernels"]["state"] == "note"
    assert kernels.reason in checks["prompt kernels"]["finding"]


def test_a_missing_library_is_not_an_error(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "path", lambda: tmp_path / "none.so")
    assert start("auto").variant == ""
    assert run_command(["doctor"]) == 0


def test_the_trial_runs_once_and_its_verdict_is_stored(fresh: None, variant: str, tmp_path: Path) -> None:
    """The test uses child processes, because this process has already loaded the kernels."""
    program = (
        "import sys; from ecellm_lite.kernels.prompt import choice, verdict, start\n"
        "ask = verdict._ask\n"
        "verdict._ask = lambda *a: (sys.stdout.write('asked '), ask(*a))[1]\n"
        f"sys.stdout.write(repr(start({variant!r})))"
    )
    command = [sys.executable, "-c", program]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert first == f"asked {State(variant)!r}"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == repr(State(variant))
    (tmp_path / "home" / "prompt_kernels.json").write_text("{", "utf-8")  # damaged, so the trial runs again
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == first


def test_an_interrupted_trial_is_repeated(
    fresh: None, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    assert os.strerror(errno.ENOENT) in start(variant).reason
    monkeypatch.setattr(sys, "executable", shutil.which("false") or "/bin/false")
    choice._registered.cache_clear()
    assert "exit code 1" in start(variant).reason
    assert not (tmp_path / "home" / "prompt_kernels.json").exists()


def test_the_command_line_offers_all_variants(variant: str) -> None:
    assert variant in CHOICES
    assert PROMPT_KERNELS == CHOICES
    assert {"auto", *tuning.CHOICES["prompt_kernels"]} == set(CHOICES)
    assert {variant, "off"} <= set(runnable()) < set(CHOICES)
