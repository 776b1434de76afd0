"""The one tree of errors: each is a sentence with the value that was wrong and the next step.

Nothing in this package raises another exception on purpose for what a user, a file or a machine did.
The command line prints the sentence and leaves with `exit_code`; a failed row of a job carries `code`.
"""

from __future__ import annotations

from typing import ClassVar


class EcellmError(Exception):
    """Any error of ecellm-lite; this class itself means a fault of ours (exit code 1)."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1


class UsageError(EcellmError):
    """The call itself is wrong: an unknown task, an option that does not exist or does not fit (exit code 2)."""

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


class JobError(EcellmError):
    """A job came to its end, and some of its rows failed; each has its line with an error (exit code 5)."""

    code = "job"
    exit_code = 5
