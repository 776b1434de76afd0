"""The base of all request bodies: strict types, no unknown keys, and unions that are told apart by one value."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Discriminator

# The first character of a union's tags, by which they are left out of a fault's place.
MARK = "~"


class Form(BaseModel):
    """A JSON object without unknown keys; nothing is converted, so a number is no text, and true is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


def by_type(*kinds: str, default: str | None = None) -> Discriminator:
    """Return a discriminator that tells forms apart by their `type`; a form without one has the `default` type."""

    def tag(value: Any) -> str | None:
        kind = value.get("type", default) if isinstance(value, dict) else getattr(value, "type", default)
        return f"{MARK}{kind}" if kind in kinds else None

    return Discriminator(
        tag, custom_error_type="unknown_type", custom_error_message=f"Its type should be one of {', '.join(kinds)}"
    )


def text_or(other: str) -> Discriminator:
    """Return a discriminator that tells a text from a list or an object, which gets the tag `other`."""

    def tag(value: Any) -> str | None:
        return f"{MARK}text" if isinstance(value, str) else f"{MARK}{other}"

    return Discriminator(tag)


def place_of(location: tuple[int | str, ...]) -> str | None:
    """Return a fault's place in the body, such as `questions.3.choices`; None for the body itself."""
    parts = [str(part) for part in location[1:] if not str(part).startswith(MARK)]
    return ".".join(parts) or None
