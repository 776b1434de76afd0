"""The base of every request body: strict types, no unknown key, and unions that are told apart by one look."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Discriminator

# A union's tags begin with it, so that the place of a fault can be told without them.
MARK = "~"


class Form(BaseModel):
    """A JSON object with these keys and no others; a number is no text, and true is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


def by_type(*kinds: str, default: str | None = None) -> Discriminator:
    """Return what tells forms apart by their `type`; those without one are of the `default` type."""

    def tag(value: Any) -> str | None:
        kind = value.get("type", default) if isinstance(value, dict) else getattr(value, "type", default)
        return f"{MARK}{kind}" if kind in kinds else None

    return Discriminator(
        tag, custom_error_type="unknown_type", custom_error_message=f"Its type should be one of {', '.join(kinds)}"
    )


def text_or(other: str) -> Discriminator:
    """Return what tells a text from a list or an object, which is tagged `other`."""

    def tag(value: Any) -> str | None:
        return f"{MARK}text" if isinstance(value, str) else f"{MARK}{other}"

    return Discriminator(tag)


def place_of(location: tuple[int | str, ...]) -> str | None:
    """Return the place of a fault in a body, `questions.3.choices` say; None for the body itself."""
    parts = [str(part) for part in location[1:] if not str(part).startswith(MARK)]
    return ".".join(parts) or None
