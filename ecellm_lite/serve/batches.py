"""`/v1/batches`, in OpenAI's format: runs the requests of an uploaded file in the background."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from ecellm_lite.serve.batch import Batch
from ecellm_lite.serve.body import JsonRoute
from ecellm_lite.serve.document import BODY, replies
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.form import Form
from ecellm_lite.serve.replies import BatchList, BatchReply
from ecellm_lite.serve.service import Served
from ecellm_lite.serve.tasks import served_task

router = APIRouter(tags=["batches"], route_class=JsonRoute)

_ENDPOINTS = ("/v1/decisions", "/v1/systemone", "/v1/chat/completions", "/v1/completions")
_TASK = re.compile(r"/v1/tasks/([A-Za-z0-9_-]{1,64})")
_MOST_OPEN = 100  # unfinished batches of one owner


MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class NewBatch(Form):
    """A batch to create: the id of its input file, and the endpoint that will answer the requests in that file."""

    input_file_id: str
    endpoint: str = Field(description=f"One of {', '.join(_ENDPOINTS)}, or /v1/tasks/TASK.")
    completion_window: Literal["24h"] = "24h"
    metadata: dict[MetadataKey, MetadataValue] | None = Field(default=None, max_length=16)
    output_expires_after: Any = Field(default=None, description="Accepted, but has no effect.")


@router.post(
    "/v1/batches", summary="Run the requests of a file", responses=replies(BatchReply, 404, *BODY, 429, 503, 507)
)
async def made(body: NewBatch, request: Request, service: Served) -> dict[str, Any]:
    """Create a batch and return it. When the earlier batches have ended, its file is checked and its requests run."""
    owner = exchange_of(request).owner
    service.files.get(body.input_file_id, owner)
    if task := _TASK.fullmatch(body.endpoint):
        served_task(task[1])
    elif body.endpoint not in _ENDPOINTS:
        message = "Batches cannot use this endpoint"
        raise RefusedError(422, "endpoint", message, step=f"use {', '.join(_ENDPOINTS)}", field="endpoint")
    if sum(batch.owner == owner and not batch.ended for batch in service.batches) >= _MOST_OPEN:
        headers = {"Retry-After": "60"}
        raise RefusedError(429, "too_many_batches", f"{_MOST_OPEN} batches have not ended yet", headers=headers)
    batch = Batch.made(owner, body.endpoint, body.input_file_id, body.metadata or {})
    service.runner.check()
    service.batches.put(batch)
    service.runner.run(batch)
    return batch.as_dict()


@router.get("/v1/batches", summary="List the batches", responses=replies(BatchList, 422))
async def listed(request: Request, service: Served, after: str = "", limit: int = 20) -> dict[str, Any]:
    """Return the batches of the request's API key, newest first.

    `after` is the id of the last batch on the previous page.
    """
    owner = exchange_of(request).owner
    owned = sorted(
        (batch for batch in service.batches if batch.owner == owner),
        key=lambda batch: (batch.created_at, batch.id),
        reverse=True,
    )
    place = next((place for place, batch in enumerate(owned, start=1) if batch.id == after), 0)
    page = owned[place : place + max(1, min(limit, 100))]
    return {
        "object": "list",
        "data": [batch.as_dict() for batch in page],
        "has_more": place + len(page) < len(owned),
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


@router.get("/v1/batches/{batch_id}", summary="Show a batch's progress", responses=replies(BatchReply, 404))
async def batch_by_id(batch_id: str, request: Request, service: Served) -> dict[str, Any]:
    """Return a batch with its status and its counts of requests."""
    return service.batches.get(batch_id, exchange_of(request).owner).as_dict()


@router.post(
    "/v1/batches/{batch_id}/cancel", summary="Cancel a batch", responses=replies(BatchReply, 404, 409, 503, 507)
)
async def cancelled(batch_id: str, request: Request, service: Served) -> dict[str, Any]:
    """Cancel a batch and return it. Its output file has the responses so far."""
    batch = service.batches.get(batch_id, exchange_of(request).owner)
    return (await service.runner.cancel(batch)).as_dict()
