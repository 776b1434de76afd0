"""The base class of request bodies. It refuses unknown keys, and does not convert values to another type."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Discriminator, model_validator
from pydantic_core import PydanticCustomError

# The first character of a union's tags, so that they can be recognized and left out of a fault's place.
MARK = "~"


class Form(BaseModel):
    """A JSON object without unknown keys. Types are strict: neither a string nor a boolean is accepted as a number."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _object(cls, value: Any) -> Any:
        if isinstance(value, dict | BaseModel):
            return value
        keys = [f'"{name}": …' for name, field in cls.model_fields.items() if field.is_required()]
        message = f"Write an object such as {{{', '.join(keys) or '…'}}}"
        raise PydanticCustomError("model_attributes_type", "{message}", {"message": message})


def by_type(*kinds: str, default: str | None = None) -> Discriminator:
    """Return a pydantic discriminator that reads the key `type`. If the key is missing, the type is `default`."""

    def tag(value: Any) -> str | None:
        kind = value.get("type", default) if isinstance(value, dict) else getattr(value, "type", default)
        return f"{MARK}{kind}" if kind in kinds else None

    return Discriminator(
        tag, custom_error_type="unknown_type", custom_error_message=f"Its type should be one of {', '.join(kinds)}"
    )


def text_or(other: str) -> Discriminator:
    """Return a pydantic discriminator for a union of a string with another type.

    The tag of a string is `~text`. The tag of any other value is `~` followed by `other`.
    """

    def tag(value: Any) -> str | None:
        return f"{MARK}text" if isinstance(value, str) else f"{MARK}{other}"

    return Discriminator(tag)


def place_of(location: tuple[int | str, ...]) -> str | None:
    """Return where in the body the wrong value is, such as `questions.3.choices`. None means the whole body.

    `location`: the entry `loc` of a pydantic error. Its first part is `body`.
    """
    parts = [str(part) for part in location[1:] if not str(part).startswith(MARK)]
    return ".".join(parts) or None
