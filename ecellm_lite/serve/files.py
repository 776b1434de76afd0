"""`/v1/files`, in OpenAI's format: the files that batches read requests from and write responses to."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive

from ecellm_lite.serve.document import BODY, errors, replies
from ecellm_lite.serve.errors import GoneError, RefusedError
from ecellm_lite.serve.exchange import exchange_of
from ecellm_lite.serve.replies import DeletedFile, FileList, FileReply
from ecellm_lite.serve.service import Served
from ecellm_lite.serve.stored_files import LARGEST

router = APIRouter(tags=["batches"])

_PURPOSES = ("batch",)
_PIECE = 1 << 20
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(_PURPOSES)},
                    },
                }
            }
        },
    }
}


@router.post("/v1/files", summary="Upload requests", openapi_extra=_UPLOAD, responses=replies(FileReply, *BODY, 507))
async def upload(request: Request, service: Served) -> dict[str, Any]:
    """Store an uploaded JSON Lines file of at most 200 MiB. Each line is one request."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise RefusedError(415, "content_type", "The upload is not a form", step="send multipart/form-data")
    bounded = Request(request.scope, _bounded(request.receive))
    try:
        form = await asyncio.wait_for(
            bounded.form(max_files=1, max_fields=8, max_part_size=1 << 12), 20 * service.limits.body_seconds
        )
    except ClientDisconnect:
        raise GoneError("The client closed its connection") from None
    except asyncio.TimeoutError:
        raise RefusedError(408, "slow_body", "The upload took too long", step="send it faster") from None
    except HTTPException as error:
        raise RefusedError(
            400, "invalid_form", f"The form cannot be read ({error.detail})", step="correct it"
        ) from None
    try:
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise RefusedError(422, "missing", "The form has no file", step="send one", field="file")
        if purpose not in _PURPOSES:
            raise RefusedError(422, "purpose", "The purpose is not batch", step="send purpose=batch", field="purpose")
        files = service.files
        files.check_room(file.size or 0)
        with files.adding(_owner(request), file.filename or "requests.jsonl", str(purpose)) as (target, stored):
            while piece := await file.read(_PIECE):
                await asyncio.to_thread(target.write, piece)
    finally:
        await form.close()
    return stored[0].as_dict()


@router.get("/v1/files", summary="List the files", responses=replies(FileList))
async def listed(request: Request, service: Served) -> dict[str, Any]:
    """Return the files of the request's API key, newest first."""
    owned = [file for file in service.files if file.owner == _owner(request)]
    files = sorted(owned, key=lambda file: -file.created_at)
    ids = [file.id for file in files]
    return {
        "object": "list",
        "data": [file.as_dict() for file in files],
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


@router.get("/v1/files/{file_id}", summary="Describe a file", responses=replies(FileReply, 404))
async def file_by_id(file_id: str, request: Request, service: Served) -> dict[str, Any]:
    """Return a file's name, purpose, size and time of creation."""
    return service.files.get(file_id, _owner(request)).as_dict()


@router.get(
    "/v1/files/{file_id}/content",
    summary="Download a file",
    response_class=FileResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}, **errors(404)},
)
async def content(file_id: str, request: Request, service: Served) -> Response:
    """Return a file's bytes."""
    path = service.files.path(service.files.get(file_id, _owner(request)))
    if not path.is_file():
        raise RefusedError(404, "file_not_found", f"The content of {file_id} is gone", step="delete the file")
    return FileResponse(path, media_type="application/jsonl", headers={"Content-Disposition": "attachment"})


@router.delete("/v1/files/{file_id}", summary="Delete a file", responses=replies(DeletedFile, 404))
async def deleted(file_id: str, request: Request, service: Served) -> dict[str, Any]:
    """Delete a file.

    If a batch still needs the file as input, the batch fails when it starts or when a restarted server resumes it.
    """
    file = service.files.get(file_id, _owner(request))
    service.files.delete(file)
    return {"id": file.id, "object": "file", "deleted": True}


def _owner(request: Request) -> str | None:
    return exchange_of(request).owner


def _bounded(receive: Receive) -> Receive:
    """Return an ASGI `receive` that raises RefusedError (413) if an upload form is too large.

    The limit is the maximum size of a file plus 64 KiB for the rest of the form.
    """
    total = 0

    async def bounded() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > LARGEST + (1 << 16):
            reason = f"The file has more than {LARGEST >> 20} MiB"
            raise RefusedError(413, "file_too_large", reason, step="split it", headers={"Connection": "close"})
        return message

    return bounded
