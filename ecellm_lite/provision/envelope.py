"""Finds a model's envelope (the text around each prompt) when the model is added to the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecellm_lite.convert.architectures import architecture_of
from ecellm_lite.convert.chat_template import form_of, form_of_folder
from ecellm_lite.convert.reading import inside, read_json
from ecellm_lite.envelopes import envelope_step
from ecellm_lite.errors import UsageError
from ecellm_lite.models.gguf_header import Header
from ecellm_lite.models.resolve import envelope_of


def envelope_of_file(header: Header, names: Sequence[str]) -> str:
    """Return the envelope of a model file. Raises UsageError if it cannot be found.

    `names`: names that the model may have in the catalogue.

    models.resolve.envelope_of looks for the envelope first. If it finds none, a child process renders the file's chat
    template, to see which envelope the template writes.
    """
    try:
        return envelope_of(header, names)
    except UsageError:
        if form := form_of({key: ("", value) for key, value in header.metadata.items()}):
            return form
        raise


def checked_envelope(repository: str, folder: Path, envelope: str) -> str:
    """Return the envelope for a repository's model, after a check of its architecture.

    The result is `envelope` or, if that is empty, the envelope of the repository's chat template. `folder` has the
    repository's configuration files. Raises ModelError for an unknown architecture, and UsageError if no envelope is
    found.
    """
    architecture_of(read_json(inside(folder, "config.json")))
    if known := envelope or form_of_folder(folder):
        return known
    raise UsageError(
        f"It is not known which envelope {repository} was trained with", step=envelope_step(), settings=("envelope",)
    )
