"""Pydantic models of the routes' JSON responses, for the OpenAPI document.

Tests check real responses against these models.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Reply(BaseModel):
    """A JSON object whose keys are exactly the fields of its class."""

    model_config = ConfigDict(extra="forbid")


class Health(Reply):
    """The server is running."""

    status: Literal["ok"]


class Ready(Reply):
    """A model is ready to answer. `models` has the state of each model."""

    status: Literal["ready"]
    model: str
    models: dict[str, str]


class TaskField(Reply):
    """A field of a task's rows."""

    name: str
    kind: str
    required: bool
    doc: str
    example: Any


class TaskReply(Reply):
    """A task, with an example of its rows."""

    name: str
    abbreviation: str | None
    hub_name: str | None
    summary: str
    instruction: str
    fields: list[TaskField]
    answers: str
    example: dict[str, Any]


class TaskList(Reply):
    """The tasks whose rows this server answers."""

    tasks: list[TaskReply]


class TableError(Reply):
    """Why a row of a table could not be read. `row`: its index in the table's rows."""

    row: int
    message: str


class TableReply(Reply):
    """A table that the server read: the columns, and each row as one text per column.

    `errors` lists the rows that have an error, and `notes` the parts of the file that were left out. The other fields
    say how to write a CSV file that the same spreadsheet program opens: the `delimiter` between cells, whether the file
    begins with a byte-order mark (`bom`), whether it is in UTF-16 (`utf16`), and whether numbers have a decimal comma.
    """

    columns: list[str]
    rows: list[list[str]]
    errors: list[TableError]
    description: str
    notes: list[str]
    delimiter: str
    bom: bool
    utf16: bool
    decimal_comma: bool


class PromptList(Reply):
    """The prompts of several questions, in order."""

    prompts: list[str]


class PromptReply(Reply):
    """The prompt that the model would read.

    `labels` has the options' keys, and for each key the option's line in the prompt.
    """

    prompt: str
    labels: dict[str, str]


class ModelReply(Reply):
    """A model, in OpenAI's format."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class TypeSafeModel(Reply):
    """A model, in TypeSafe's format."""

    name: str
    description: str
    release_date: str


class ModelList(Reply):
    """The models, in OpenAI's format and in TypeSafe's."""

    object: Literal["list"]
    data: list[ModelReply]
    models: list[TypeSafeModel]


class FileReply(Reply):
    """A stored file."""

    id: str
    object: Literal["file"]
    filename: str
    purpose: Literal["batch", "batch_output"]
    bytes: int
    created_at: int
    status: Literal["processed"]
    expires_at: None
    status_details: None


class DeletedFile(Reply):
    """A file that was deleted."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class FileList(Reply):
    """Files, newest first."""

    object: Literal["list"]
    data: list[FileReply]
    has_more: Literal[False]
    first_id: str | None
    last_id: str | None


class BatchFault(Reply):
    """A reason why a whole batch failed, such as an error in its input file."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchFaults(Reply):
    """The reasons why a whole batch failed."""

    object: Literal["list"]
    data: list[BatchFault]


class BatchCounts(Reply):
    """How many requests a batch has, how many were answered, and how many failed."""

    total: int
    completed: int
    failed: int


class BatchReply(Reply):
    """A batch. All times are in Unix seconds."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    metadata: dict[str, str] | None


class BatchList(Reply):
    """Batches, newest first."""

    object: Literal["list"]
    data: list[BatchReply]
    has_more: bool
    first_id: str | None
    last_id: str | None
