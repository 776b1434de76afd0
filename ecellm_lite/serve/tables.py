"""`POST /v1/tables`: reads an uploaded table for the web page, in any format that jobs read. Stores nothing."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ecellm_lite.serve.body import read_body
from ecellm_lite.serve.document import BODY, replies
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.in_flight import unless_disconnected
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.replies import TableReply
from ecellm_lite.serve.service import Served

router = APIRouter(tags=["tasks"])

MOST_ROWS = 20_000
MOST_CHARACTERS = 16 << 20
SECONDS = 60.0
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/v1/tables", summary="Read a table", openapi_extra=_BODY, responses=replies(TableReply, *BODY, 507))
async def read(request: Request, service: Served, name: Annotated[str, Query(max_length=255)] = "table") -> Response:
    """Return the columns and rows of a table.

    The request's body is the table's file: CSV, XLSX, ODS, Parquet, Arrow or JSON Lines. All cells are returned as
    texts. `name` is the file's name; error messages show it.
    """
    data = await read_body(request, service.limits, "application/octet-stream")
    service.folder.mkdir(0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=service.folder, prefix="table-") as folder:
        path = Path(folder) / _filename(name)
        await asyncio.to_thread(path.write_bytes, data)
        async with service.reading:  # each takes a process, and up to 2 GiB
            table = await unless_disconnected(request, _read(path))
    if error := table.get("error"):
        raise RefusedError(422, error["code"], error["message"].rstrip("."), field="file")
    return JsonResponse(table)


def _filename(name: str) -> str:
    """Return a name for the uploaded file. A long name keeps its end, which says the format."""
    safe = re.sub(r"[^\w.-]", "_", name).encode()[-80:].decode(errors="ignore")
    return safe.lstrip(".") or "table"


async def _read(path: Path) -> dict[str, Any]:
    """Read a table file in a child process, and return the JSON object that the process prints.

    Raises RefusedError (422) if the process dies or takes too long.
    """
    command = [sys.executable, "-m", "ecellm_lite.serve.table_child", str(path), str(MOST_ROWS), str(MOST_CHARACTERS)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    except asyncio.TimeoutError:
        output = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RefusedError(
            422, "table_not_read", "The table takes too much memory or time", step="send a smaller one", field="file"
        )
    table: dict[str, Any] = json.loads(output)
    return table
