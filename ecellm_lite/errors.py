"""The one tree of errors: each says what is wrong, where, with which value, and what to do next.

Nothing in this package raises another exception on purpose for what a user, a file or a machine did. An error speaks no
face's language: `step` names no option of the command line, no argument of Python and no field of HTTP. Where a setting
helps, `settings` names it, and each face words it in its own way (as an option, an argument or a field).

>>> error = ContextError("The prompt has 5,000 tokens", step="shorten the row", settings=("context",))
>>> str(error)
'The prompt has 5,000 tokens: shorten the row.'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar


class EcellmError(Exception):
    """Any error of ecellm-lite; this class itself means a fault of ours (exit code 1).

    `message` says what is wrong, with the value that was wrong; `step` what to do next. Without a `step` the message is
    a whole sentence, with its period. `field` is a row's or file's field (`product_1.title`), `line` a line's number
    from 1, `file` a path. `settings` are the settings that the step is about, by the names of Runtime's arguments or of
    the function's that raised it.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        step: str | None = None,
        settings: Sequence[str] = (),
        field: str | None = None,
        line: int | None = None,
        file: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.step = step
        self.settings = tuple(settings)
        self.field = field
        self.line = line
        self.file = file

    def __str__(self) -> str:
        """Return the error as one sentence, with its step."""
        return f"{self.message}: {self.step}." if self.step else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Let an error pass between processes with its place and step."""
        return type(self), (self.message,), self.__dict__


class UsageError(EcellmError):
    """The call itself is wrong: an unknown task, a setting that does not exist or does not fit (exit code 2)."""

    code = "usage"
    exit_code = 2


class InputError(EcellmError):
    """A row, a file of rows, or what came with it cannot be read or does not fit its task (exit code 3)."""

    code = "input"
    exit_code = 3


class ContextError(InputError):
    """A prompt and its answer do not fit the model's context (exit code 3)."""

    code = "context_exceeded"


class GrammarError(InputError):
    """A JSON schema or a grammar does not compile, or a model cannot go on under it (exit code 3)."""

    code = "grammar"


class ModelError(EcellmError):
    """There is no such model, or its file is damaged, foreign or hostile (exit code 4)."""

    code = "model"
    exit_code = 4


class BusyError(ModelError):
    """Another process is writing the same model or file (exit code 4)."""

    code = "busy"


class ClosedError(EcellmError):
    """The engine was closed while the answer was still waited for, or was used in another process (exit code 1)."""

    code = "closed"


class DeadlineError(EcellmError):
    """A request was not answered within the time that it had (exit code 1)."""

    code = "deadline"


class ProtocolError(EcellmError):
    """A request over a pipe or HTTP is not one: no JSON, an unknown type, no id; `id` is the request's where known."""

    code = "protocol"
    exit_code = 3

    def __init__(self, message: str, *, id: str | int | None = None, **place: Any) -> None:  # noqa: A002 - the field's name
        super().__init__(message, **place)
        self.id = id


class CrashError(EcellmError):
    """The engine's process died, more than once, while it worked on this request (exit code 1)."""

    code = "crashed"


class JobError(EcellmError):
    """A job came to its end, and some of its rows failed; each has its line with an error (exit code 5)."""

    code = "job"
    exit_code = 5


def error_of(code: str) -> type[EcellmError]:
    """Return the class of errors with a code; EcellmError for one that is not known."""
    return next((kind for kind in _tree(EcellmError) if kind.code == code), EcellmError)


def _tree(kind: type[EcellmError]) -> Iterator[type[EcellmError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)
