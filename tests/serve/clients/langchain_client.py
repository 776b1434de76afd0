"""Tests a server with LangChain's client (package langchain-openai): python langchain_client.py BASE_URL."""

from __future__ import annotations

import sys

from langchain_openai import ChatOpenAI, OpenAI

SCHEMA = {
    "title": "Noise",
    "description": "Whether a thing is loud.",
    "type": "object",
    "properties": {"loud": {"type": "boolean"}},
    "required": ["loud"],
}


def main(base_url: str) -> None:
    settings = {"model": "fake", "base_url": base_url, "api_key": "placeholder", "max_retries": 0}
    chat = ChatOpenAI(**settings, max_tokens=8)
    message = chat.invoke("Is it loud?")
    assert message.content
    assert "".join(piece.content for piece in chat.stream("Is it loud?")) == message.content
    first, _ = chat.batch(["Is it loud?", "Is it?"])
    assert first.content == message.content
    assert OpenAI(**settings, max_tokens=8).invoke("Once")
    structured = ChatOpenAI(**settings, max_tokens=40).with_structured_output(SCHEMA, method="json_schema")
    assert isinstance(structured.invoke("Is it loud?")["loud"], bool)


if __name__ == "__main__":
    main(sys.argv[1])
