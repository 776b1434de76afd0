"""What a tuning (bench/tuner.py) found to be fastest on a machine: a JSON file beside the model.

It holds for the model, the machine and the versions that it was measured with, and says nothing anywhere else. The
file of a model in the store lies in the model's folder, that of another GGUF file in the store under its sha256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecellm_lite import ggml
from ecellm_lite.documents import read_document
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import replacing
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.version import __version__

FORMAT = 1
LARGEST = 1 << 18  # bytes: a tuning is a page, and a larger file is not one
MOST_THREADS = 1024

# What may be tuned besides the threads, and to what. q8_0 keeps the memory in 8 bits, which changes answers.
CHOICES: Mapping[str, tuple[int | str, ...]] = {
    "micro_batch": (128, 256, 512, 1024),
    "flash_attention": ("on", "off"),
    "kv_type": ("f16", "f32", "q8_0"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What a measured rate depends on besides the model: cores this process may use, devices, and versions."""

    cores: int
    devices: tuple[str, ...]
    llama_cpp_python: str
    ecellm_lite: str


def this_machine(cores: int) -> Machine:
    """Return this machine, on which `cores` may be used; ggml names the CPU's model among its devices."""
    devices = tuple(f"{device.name}: {device.description}" for device in ggml.devices())
    return Machine(cores, devices, ggml.version(), __version__)


@dataclass(frozen=True, slots=True)
class Tuning:
    """The settings that were faster than the defaults, none where the defaults are best.

    `model` is the sha256 of the file, `gpu_layers` what was asked for while it was measured, and `trials` say what
    was tried, in rows a second.
    """

    model: str
    machine: Machine
    gpu_layers: str | int
    settings: dict[str, int | str]
    trials: tuple[dict[str, Any], ...] = ()
    format: int = FORMAT

    def holds(self, model: str, machine: Machine) -> bool:
        """Whether it was measured with that model (its sha256) on that machine."""
        return self.model == model and self.machine == machine

    def write(self, path: Path) -> None:
        """Write the tuning; it is there whole or not at all. Raises ModelError if the store cannot be written."""
        try:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ModelError(f"{path} cannot be written ({error.strerror}): make room or check its rights.") from None


def tuning_path(store: Store, model: StoredModel) -> Path:
    """Return where the tuning of a model is kept."""
    if store.owns(model):
        return model.path.parent / "tuning.json"
    return store.root / "tuning" / f"{model.manifest.sha256}.json"


def keep_tuning(store: Store, model: StoredModel, tuning: Tuning) -> None:
    """Keep a tuning of a model; raises ModelError if the model is not there any more."""
    with store.writing_beside(model):
        tuning.write(tuning_path(store, model))


def read_tuning(path: Path) -> Tuning | None:
    """Return the tuning in a file, None if there is no file; raises ModelError with what is wrong in it."""
    try:
        tuning = read_document(Tuning, path, largest=LARGEST, formats=(FORMAT,))
        _check(tuning.settings)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The tuning {path} is damaged ({error}) and is not used", step="tune again, or remove it", file=str(path)
        ) from None
    return tuning


def _check(settings: Mapping[str, int | str]) -> None:
    """Raise ValueError for a setting or a value that is never tuned."""
    for name, value in settings.items():
        choices = range(1, MOST_THREADS + 1) if name == "threads" else CHOICES.get(name, ())
        if value not in choices:
            raise ValueError(f"{name} is {value!r}")
    if settings.get("kv_type") == "q8_0" and settings.get("flash_attention") == "off":
        raise ValueError("kv_type q8_0 needs flash attention")
