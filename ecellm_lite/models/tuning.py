"""The tuning of a model on a machine: the fastest settings that bench/tuner.py found, as a JSON file.

A tuning is used only with the model, machine and versions that it was measured with. A stored model has its tuning in
its folder. The tuning of any other GGUF file is in the store, under the file's sha256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecellm_lite import ggml
from ecellm_lite.devices import devices
from ecellm_lite.documents import read_document
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import write_json
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.version import __version__

FORMAT = 1
LARGEST = 1 << 18  # bytes; a tuning is about a page
MOST_THREADS = 1024

# What is tuned besides the threads, and its values. q8_0 keeps the KV memory in 8 bits, which changes answers.
CHOICES: Mapping[str, tuple[int | str, ...]] = {
    "micro_batch": (128, 256, 512, 1024),
    "flash_attention": ("on", "off"),
    "kv_type": ("f16", "f32", "q8_0"),
    "prompt_kernels": ("off", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts about a machine that affect speed. `cores` is the number of cores that this process may use."""

    cores: int
    devices: tuple[str, ...]
    llama_cpp_python: str
    ecellm_lite: str


def this_machine(cores: int) -> Machine:
    """Return the description of this machine: the cores, the devices that ggml lists, and the versions of the software.

    `cores`: how many cores this process may use.
    """
    names = tuple(f"{device.name}: {device.description}" for device in devices())
    return Machine(cores, names, ggml.version(), __version__)


@dataclass(frozen=True, slots=True)
class Tuning:
    """The fastest settings of a model on a machine.

    `model`: the sha256 of the model's file.
    `gpu_layers`: the value of the setting `gpu_layers` during the measurement.
    `settings`: the best values by name. Settings whose default is best are left out.
    `trials`: the combinations of settings that were tried, each with its rows per second.
    """

    model: str
    machine: Machine
    gpu_layers: str | int
    settings: dict[str, int | str]
    trials: tuple[dict[str, Any], ...] = ()
    format: int = FORMAT

    def holds(self, model: str, machine: Machine) -> bool:
        """Whether the tuning was measured on this machine with this model.

        `model` is the sha256 of the model's file.
        """
        return self.model == model and self.machine == machine

    def write(self, path: Path) -> None:
        """Write the tuning atomically. Raises ModelError if it cannot be written."""
        write_json(path, asdict(self))


def tuning_path(store: Store, model: StoredModel) -> Path:
    """Return the path of the file for a model's tuning (its fastest settings)."""
    if store.owns(model):
        return model.path.parent / "tuning.json"
    return store.root / "tuning" / f"{model.manifest.sha256}.json"


def check_keepable(store: Store, model: StoredModel) -> None:
    """Raise ModelError if a tuning of this model cannot be stored. To find out, write and remove an empty file."""
    path = tuning_path(store, model)
    probe = path.with_name(f"{path.name}.new")
    with store.writing_beside(model):
        write_json(probe, {})
        probe.unlink(missing_ok=True)  # another process may have removed it


def keep_tuning(store: Store, model: StoredModel, tuning: Tuning) -> None:
    """Store a model's tuning. Raises ModelError if the model no longer exists."""
    with store.writing_beside(model):
        tuning.write(tuning_path(store, model))


def read_tuning(path: Path) -> Tuning | None:
    """Return the tuning in a file, or None if there is no file. Raises ModelError if the file is damaged."""
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
    """Raise ValueError for a setting that is not tunable, or for a value outside its choices."""
    for name, value in settings.items():
        choices = range(1, MOST_THREADS + 1) if name == "threads" else CHOICES.get(name, ())
        if value not in choices:
            raise ValueError(f"{name} is {value!r}")
    if settings.get("kv_type") == "q8_0" and settings.get("flash_attention") == "off":
        raise ValueError("kv_type q8_0 needs flash attention")
