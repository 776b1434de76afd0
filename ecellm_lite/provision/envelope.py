"""The envelope of a model that is put into the store: a GGUF file's, or a repository's."""

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
    """Return the envelope that a file names, or whose form its chat template has; raises UsageError if neither does.

    `names`: as in models.resolve.envelope_of. A template that is not known is rendered in a child process.
    """
    try:
        return envelope_of(header, names)
    except UsageError:
        if form := form_of({key: ("", value) for key, value in header.metadata.items()}):
            return form
        raise


def checked_envelope(repository: str, folder: Path, envelope: str) -> str:
    """Return the envelope of a repository, after checking its architecture; `envelope` is used unless it is empty.

    `folder` has the repository's configuration. Raises ModelError if the architecture is not known, and UsageError if
    the envelope is not.
    """
    architecture_of(read_json(inside(folder, "config.json")))
    if known := envelope or form_of_folder(folder):
        return known
    raise UsageError(
        f"It is not known which envelope {repository} was trained with", step=envelope_step(), settings=("envelope",)
    )
