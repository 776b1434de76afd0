"""A child process that renders an untrusted chat template, in jinja2's sandbox and with limits for time and memory.

The process reads the object {"template", "bos", "eos", "conversations", "most"} from standard input. It writes a list
with the text of each conversation to standard output. The text is null if the template fails, or if the text has more
than `most` characters.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, NoReturn

CPU_SECONDS = 5
MEMORY_BYTES = 1 << 30

# "Today" for every template: the default date of Llama 3.1's.
_TODAY = datetime(2024, 7, 26)


def main() -> None:
    """Read the request from standard input, render its conversations, and write the texts to standard output."""
    _limit()
    request = json.load(sys.stdin)
    texts = [_rendered(request, conversation) for conversation in request["conversations"]]
    json.dump(texts, sys.stdout)


def _rendered(request: dict[str, Any], conversation: list[dict[str, str]]) -> str | None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # As transformers' apply_chat_template sets it up.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _TODAY.strftime
    try:
        text = environment.from_string(request["template"]).render(
            messages=conversation,
            bos_token=request["bos"],
            eos_token=request["eos"],
            add_generation_prompt=True,
            enable_thinking=False,
        )
    except Exception:  # noqa: BLE001 - a template can raise anything
        return None
    return text if len(text) <= request["most"] else None


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows; the parent limits the time
        return
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    main()
