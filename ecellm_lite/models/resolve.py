"""Finds the model for a name. The name can be a path, a name in the store, a catalogue name, or `demo`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ecellm_lite.envelopes import envelope_step, get_envelope
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.catalogue import DEMO, catalogue_entry, how_to_get
from ecellm_lite.models.chat_templates import known_form
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.model_check import check_model
from ecellm_lite.models.store import Store, StoredModel

# The metadata key with the names of the tasks that a file is made for, an array of strings.
TASKS_KEY = "ecellm.tasks"

# Models that the package makes itself on first use.
Makers = Mapping[str, Callable[[Store], StoredModel]]


def resolve(name: str | None, store: Store, makers: Makers, *, envelope: str | None = None) -> StoredModel:
    """Return the model that `name` means, after checking its header.

    The returned manifest has the sha256 of the file's current bytes.

    If `name` is None, the environment variable ECELLM_MODEL names the model. If the variable is not set, the result is
    the only model in the store, not counting the demo. If the store has no other model, the result is the demo.

    Raises ModelError if there is no such model or its file is damaged. Raises UsageError if no name is given and the
    store has several models besides the demo, or if the file's envelope is unknown.
    """
    named = bool(name)
    name = name or os.environ.get("ECELLM_MODEL") or _only_model(store) or DEMO
    if name in makers:
        model = makers[name](store)
    elif store.has(name):
        model = store.load(name)
    elif _is_path(name):
        return _from_path(Path(name), store, envelope)
    else:
        raise _unknown(name, store, named=named)
    header = read_header(model.path)
    check_model(header)
    return replace(model, tasks=tasks_of(header))


def resolve_envelope(name: str | None, store: Store, demo_envelope: str) -> str:
    """Return the name of a model's envelope. The model is not converted, hashed or loaded.

    `name`: a stored or published model, or a path. If `name` is None, the environment variable ECELLM_MODEL names the
      model. If this variable is not set, the model is the only stored one or, if none is stored, the demo.
    `demo_envelope`: the result for the demo if it is not in the store.
    """
    named = bool(name)
    name = name or os.environ.get("ECELLM_MODEL") or _only_model(store) or DEMO
    if store.has(name):
        return store.get(name).manifest.envelope
    if name == DEMO:
        return demo_envelope
    if _is_path(name):
        return envelope_of(read_header(Path(name)), [Path(name).name])
    entry = catalogue_entry(name)
    if entry and entry.envelope:
        return entry.envelope
    raise _unknown(name, store, named=named)


def _only_model(store: Store) -> str | None:
    names = [name for name in store.names() if name != DEMO]
    if len(names) > 1:
        raise UsageError(
            f"The store has the models {', '.join(names)}",
            step="name one of them, here or in ECELLM_MODEL",
            settings=("model",),
        )
    return names[0] if names else None


def _is_path(name: str) -> bool:
    named = name.endswith(".gguf") or os.sep in name or "/" in name
    return named or os.path.exists(name)  # noqa: PTH110 - Path.exists raises for a name that is too long


def _from_path(path: Path, store: Store, envelope: str | None) -> StoredModel:
    header = read_header(path)
    check_model(header)
    envelope_name = envelope or envelope_of(header, [path.name])
    identity = store.identify(path)
    manifest = Manifest(path.name, path.name, identity.size, identity.sha256, envelope_name, str(path))
    return StoredModel(path, manifest, tasks_of(header), identity)


def envelope_of(header: Header, names: Sequence[str]) -> str:
    """Return the envelope of a model file. Raises UsageError if there is none.

    The first of these that exists is returned:

    1. the envelope in the file's metadata,
    2. the envelope of a published model with one of these `names`,
    3. the form of the file's chat template, if chat_templates.py lists the template.

    An envelope is never guessed, because eCeLLM's weights score zero with the wrong envelope.
    """
    envelope_name = header.metadata.get("ecellm.envelope")
    if isinstance(envelope_name, str):
        return get_envelope(envelope_name).name
    for name in (*names, header.metadata.get("general.name")):
        entry = catalogue_entry(name) if isinstance(name, str) else None
        if entry and entry.envelope:
            return entry.envelope
    if form := known_form(str(header.metadata.get("tokenizer.chat_template", ""))):
        return form
    raise UsageError(
        f"{' or '.join(names)} does not say which envelope its weights were trained with",
        step=envelope_step(),
        settings=("envelope",),
    )


def tasks_of(header: Header) -> tuple[str, ...]:
    """Return the names of the tasks that a file's metadata lists. Empty if it lists none."""
    names = header.metadata.get(TASKS_KEY)
    # Invalid UTF-8 was read as surrogates, which cannot be printed.
    return tuple(name.encode("utf-8", "replace").decode() for name in names) if isinstance(names, tuple) else ()


def _unknown(name: str, store: Store, *, named: bool) -> ModelError:
    """Return the error for a model that does not exist.

    `named`: whether the user gave the name. If not, the name comes from ECELLM_MODEL.
    """
    if catalogue_entry(name):
        return ModelError(f"{name} is not in the store", step=how_to_get(name))
    names = [*store.names(), *([] if DEMO in store.names() else [DEMO])]
    if not named:
        return ModelError(
            f"ECELLM_MODEL is {name!r}, and there is no such model",
            step=f"unset it, or set it to the path of a GGUF file or one of {', '.join(names)}",
        )
    return ModelError(
        f"There is no model {name!r}",
        step=f"give the path of a GGUF file or one of {', '.join(names)}",
        settings=("model",),
    )
