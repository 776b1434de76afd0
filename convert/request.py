"""A request for a conversion: the inputs, the target, the envelope, and entries for the manifest."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecellm_lite.convert.blueprint import MetadataValue
from ecellm_lite.convert.chat_template import form_of
from ecellm_lite.convert.writer import unfinished_paths
from ecellm_lite.envelopes import envelope_step, get_envelope
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.catalogue import catalogue_entry
from ecellm_lite.models.hub import cached, is_repository
from ecellm_lite.models.hub_file import HubFile
from ecellm_lite.models.resolve import TASKS_KEY
from ecellm_lite.tasks.registry import TASKS, get_task

ENVELOPE_KEY = "ecellm.envelope"


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """The settings of a conversion.

    - `base`: a checkpoint's folder, the id of a Hugging Face repository in the local cache, or a GGUF file.
    - `weights`: safetensors files that are still on the hub and not in the folder `base`. They are downloaded,
      converted and deleted one after another.
    - `adapters`: PEFT folders or GGUF files, each with a multiplier: 0.5 adds half of the adapter's change.
    - `envelope`: the name of the envelope (the text around each row in a prompt). By default, choose_envelope finds it.
    - `overrides`: pairs of a regular expression and a type. A matrix gets the type of the first expression that is
      found anywhere in its name.
    - `max_memory`: how many bytes of memory the conversion may use.
    - `name`: the model's name.
    - `manifest`: the manifest's path. By default, it is next to the target.
    - `base_name`: the base's name in the manifest.
    - `source`, `licence` and `details`: entries for the manifest.
    - `tasks`: the names of the tasks that the model is made for. By default, a GGUF base keeps its tasks, eCeLLM has
      all ten tasks, and a model with a merged adapter has none.
    """

    base: str
    target: Path
    file_type: str = "Q4_K_M"
    adapters: tuple[tuple[Path, float], ...] = ()
    envelope: str | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    imatrix: Path | None = None
    max_memory: int | None = None
    name: str = ""
    manifest: Path | None = None
    source: str = ""
    licence: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    base_name: str = ""
    tasks: tuple[str, ...] = ()
    weights: tuple[HubFile, ...] = ()

    @property
    def manifest_path(self) -> Path:
        """The manifest's path. By default, the manifest is next to the target."""
        return self.manifest or self.target.with_name(f"{self.target.name}.manifest.json")

    def name_of_base(self) -> str:
        """Return the base's name: the name of its folder or file, or its id on the hub.

        The field `base_name`, by which the manifest may call the base, is not used.
        """
        return name_of_base(self.base)

    def check_paths(self) -> None:
        """Raise UsageError for an invalid path, and ModelError for a path that cannot be reached."""
        if not self.target.name:
            raise UsageError(
                f"{self.target} is not a file's name", step="give one such as model.gguf", settings=("target",)
            )
        paths = [Path(self.base), *(path for path, _ in self.adapters), *([self.imatrix] if self.imatrix else [])]
        for path in (*paths, self.target, *unfinished_paths(self.target), self.manifest_path):
            try:
                path.stat()
            except ValueError:
                raise UsageError(
                    f"{str(path)[:80]!r} is not a valid path, because it contains a zero byte", step="give another"
                ) from None
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                    raise ModelError(
                        f"{path} cannot be reached ({error.strerror})",
                        step="give a shorter path, or check the rights of its folders",
                        file=str(path),
                    ) from None

    def choose_envelope(self, metadata: Mapping[str, MetadataValue]) -> str:
        """Return the envelope's name. It is never guessed, because answers with a wrong envelope are worthless.

        The first of these that exists is returned:

        1. the envelope in this request,
        2. the envelope in `metadata`, the metadata of the base,
        3. the envelope of the base or the new model in the catalogue of published models (models/catalogue.py),
        4. the chat form of the base's chat template (see chat_template.py).

        An adapter may have been trained with another envelope than the base's chat form. So if there are adapters, the
        chat template is ignored, and so are catalogue entries of models that were not tuned on e-commerce data.

        Raises UsageError if none of these exists.
        """
        if self.envelope:
            return get_envelope(self.envelope).name
        if ENVELOPE_KEY in metadata:
            return get_envelope(str(metadata[ENVELOPE_KEY][1])).name
        title = str(metadata.get("general.name", ("STRING", ""))[1])
        for name in (self.base, self.name_of_base(), title, self.name, self.target.name):
            entry = catalogue_entry(name)
            if entry and entry.envelope and (entry.trained_on or not self.adapters):
                return entry.envelope
        form = form_of(metadata)
        if form and not self.adapters:
            return form
        raise UsageError(
            f"Nothing in {self.name_of_base()} names the envelope that its weights were trained with",
            step=f"give the envelope; the base alone has the chat form {form}" if form else envelope_step(),
            settings=("envelope",),
        )

    def choose_tasks(self, metadata: Mapping[str, MetadataValue]) -> MetadataValue | None:
        """Return the names of the model's tasks as a metadata value, or None if they are not known.

        `metadata` is the base's metadata.
        """
        if self.tasks:
            return "ARRAY", list(dict.fromkeys(get_task(name).name for name in self.tasks))
        if self.adapters:
            return None
        title = str(metadata.get("general.name", ("STRING", ""))[1])
        entries = map(catalogue_entry, (self.base, self.name_of_base(), title))
        trained = any(entry.trained_on == "ECInstruct" for entry in entries if entry)
        return metadata.get(TASKS_KEY) or (("ARRAY", list(TASKS)) if trained else None)


def name_of_base(base: str) -> str:
    """Return a base's name: the name of its folder or file, or its id on the hub."""
    path = Path(base)
    return path.resolve().name if path.exists() else base


def checkpoint_folder(base: str) -> Path:
    """Return a checkpoint's folder. `base` is its path, or the id of a repository in the hub's local cache.

    Nothing is downloaded.
    """
    folder = Path(base)
    return folder if folder.exists() or not is_repository(base) else cached(base)
