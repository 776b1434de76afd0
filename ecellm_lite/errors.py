"""All errors of this package.

Each error says what is wrong and where, with the wrong value, and what to do next (its `step`). Every fault of a user,
a file or a machine is reported by one of these errors. The command line, Python and HTTP show the same text, so `step`
never names an option, argument or field. If a setting helps, `settings` names it. Each front end shows this name in its
own form.

>>> error = ContextError("The prompt has 5,000 tokens", step="shorten the row", settings=("context",))
>>> str(error)
'The prompt has 5,000 tokens: shorten the row.'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar


class EcellmError(Exception):
    """The base class of all errors.

    If this class itself is raised, the program or its installation is at fault (exit code 1).

    `message`: what is wrong, including the wrong value. If there is no `step`, the message ends with a period.
    `step`: what to do next.
    `field`: a field of a row or file, such as `product_1.title`.
    `line`: a line number, from 1.
    `file`: a path.
    `settings`: the names of the settings that the step is about. Each is the name of an argument of Runtime, or of the
      function that raised the error.
    `values`: the values to give to these settings, by name. If the error is created with a mapping as `settings`, such
      as {"only_where": "Title"}, `values` is that mapping. Otherwise it is empty.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        step: str | None = None,
        settings: Sequence[str] | Mapping[str, str] = (),
        field: str | None = None,
        line: int | None = None,
        file: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.step = step
        self.settings = tuple(settings)
        self.values = dict(settings) if isinstance(settings, Mapping) else {}
        self.field = field
        self.line = line
        self.file = file

    def __str__(self) -> str:
        """Return the message, followed by what to do next (`step`), as one sentence."""
        return f"{self.message}: {self.step}." if self.step else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error with all its fields, so that it can pass between processes."""
        return type(self), (self.message,), self.__dict__


class UsageError(EcellmError):
    """The call itself is wrong: an unknown task, or a setting that is unknown or invalid (exit code 2)."""

    code = "usage"
    exit_code = 2


class InputError(EcellmError):
    """A row, a file of rows or other input cannot be read, or does not fit the task (exit code 3)."""

    code = "input"
    exit_code = 3


class ContextError(InputError):
    """A prompt and its answer do not fit the model's context (exit code 3)."""

    code = "context_exceeded"


class GrammarError(InputError):
    """A JSON schema or a grammar does not compile, or no text can be generated with it (exit code 3)."""

    code = "grammar"


class ModelError(EcellmError):
    """A model does not exist, or its file is damaged, hostile, or not a model file (exit code 4)."""

    code = "model"
    exit_code = 4


class BusyError(ModelError):
    """Another process is writing the same model or file (exit code 4)."""

    code = "busy"


class ClosedError(EcellmError):
    """The engine was closed before the answer was ready, or was used in a forked process (exit code 1)."""

    code = "closed"


class DeadlineError(EcellmError):
    """A request was not answered before its deadline (exit code 1)."""

    code = "deadline"


class ProtocolError(EcellmError):
    """A request over a pipe or HTTP is malformed: not JSON, of an unknown type, or without an id.

    `id` is the request's id or None.
    """

    code = "protocol"
    exit_code = 3

    def __init__(self, message: str, *, id: str | int | None = None, **place: Any) -> None:  # noqa: A002 - the field's name
        super().__init__(message, **place)
        self.id = id


class CrashError(EcellmError):
    """The engine's process died more than once while it worked on this request (exit code 1)."""

    code = "crashed"


class JobError(EcellmError):
    """A job finished, but some rows failed or some corrections could not be applied (exit code 5).

    Each failed row has an error in the output.
    """

    code = "job"
    exit_code = 5


def error_of(code: str) -> type[EcellmError]:
    """Return the error class with this code, or EcellmError if there is none."""
    return next((kind for kind in _tree(EcellmError) if kind.code == code), EcellmError)


def _tree(kind: type[EcellmError]) -> Iterator[type[EcellmError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)
