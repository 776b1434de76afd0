"""Yields a text in parts while the model writes it, and sends parts to a client as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from ecellm_lite.errors import EcellmError
from ecellm_lite.serve.errors import GoneError, error_body
from ecellm_lite.serve.model_source import ModelSource
from ecellm_lite.serve.service import Service
from ecellm_lite.serve.texts import Text, TextRequest, generate_texts


async def stream_text(
    service: Service, request: Request, model: ModelSource, text_request: TextRequest, seed: int | None
) -> AsyncIterator[str | tuple[Text, dict[str, Any]]]:
    """Yield the parts of a text as the model writes them, and at the end a pair (whole text, token counts).

    If the model fails to write the text, raises the error.
    """
    loop = asyncio.get_running_loop()
    updates: asyncio.Queue[str] = asyncio.Queue()
    work = asyncio.create_task(
        generate_texts(
            service,
            request,
            model,
            [text_request],
            1,
            seed,
            lambda text: _quietly(loop.call_soon_threadsafe, updates.put_nowait, text),
        )
    )
    yielded = 0
    update = asyncio.create_task(updates.get())
    try:
        while True:
            await asyncio.wait((work, update), return_when=asyncio.FIRST_COMPLETED)
            if not update.done():
                break
            yield update.result()[yielded:]
            yielded = len(update.result())
            update = asyncio.create_task(updates.get())
        [text], usage = work.result()
        if len(text.text) > yielded:
            yield text.text[yielded:]
        yield text, usage
    finally:
        work.cancel()
        update.cancel()


def _quietly(call: Callable[..., object], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: the client is gone
        call(*arguments)


async def event_stream(pieces: AsyncIterator[Mapping[str, Any]]) -> StreamingResponse:
    """Return a response that sends the pieces as server-sent events, and then OpenAI's end mark `[DONE]`.

    If the first piece fails, raise its error. Later errors are sent as events.
    """
    first = await anext(pieces)

    async def events() -> AsyncIterator[str]:
        yield _event(first)
        try:
            async for piece in pieces:
                yield _event(piece)
        except GoneError:
            return
        except EcellmError as error:  # the HTTP status has been sent already
            yield _event(error_body(500, error.code, str(error)))
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(piece: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(piece, allow_nan=False)}\n\n"
