"""The input fields of a task: what each may hold, checked with an error that names it and shows how it should look.

A field's `read` takes what JSON gives and returns it in one form, or raises InputError. Lone surrogates, which
JSON can carry and UTF-8 cannot, become U+FFFD here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol

from ecellm_lite.errors import InputError


class Field(Protocol):
    """One input field of a row."""

    @property
    def name(self) -> str:
        """The key in a row."""

    @property
    def doc(self) -> str:
        """One sentence on what it is."""

    @property
    def example(self) -> Any:
        """A value as it should look."""

    @property
    def required(self) -> bool:
        """Whether a row must have it."""

    @property
    def kind(self) -> str:
        """The form in words, for errors and help."""

    def read(self, value: Any, place: str) -> Any:
        """Return the value in the field's form; `place` names it in errors, `product_1.title` say."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text; numbers are taken as they are written where `numbers` allows it (prices)."""

    name: str
    doc: str
    example: str
    required: bool = True
    numbers: bool = False

    @property
    def kind(self) -> str:
        """The form in words."""
        return "text or a number" if self.numbers else "text"

    def read(self, value: Any, place: str) -> str:
        """Return the text."""
        if self.numbers and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
            return str(value)
        if not isinstance(value, str):
            raise _mismatch(self, value, place)
        return encodable(value)


@dataclass(frozen=True, slots=True)
class Paragraphs:
    """A text, or a list of paragraphs that are joined with a comma and a space."""

    name: str
    doc: str
    example: str
    required: bool = True
    kind: ClassVar[str] = "text, or a list of texts"

    def read(self, value: Any, place: str) -> str:
        """Return the text, or the paragraphs as one."""
        if isinstance(value, str):
            return encodable(value)
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise _mismatch(self, value, place)
        return encodable(", ".join(value))


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of `least` to `most` texts."""

    name: str
    doc: str
    example: Sequence[str]
    required: bool = True
    least: int = 1
    most: int = 10_000

    @property
    def kind(self) -> str:
        """The form in words."""
        return f"a list of {_count(self.least, self.most)} texts"

    def read(self, value: Any, place: str) -> tuple[str, ...]:
        """Return the texts."""
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise _mismatch(self, value, place)
        if not all(isinstance(part, str) for part in value):
            raise _mismatch(self, value, place)
        return tuple(map(encodable, value))


@dataclass(frozen=True, slots=True)
class Record:
    """An object with fields of its own."""

    name: str
    doc: str
    fields: tuple[Text, ...]
    required: bool = True

    @property
    def kind(self) -> str:
        """The form in words."""
        names = ", ".join(field.name if field.required else f"{field.name} (optional)" for field in self.fields)
        return f"an object with {names}"

    @property
    def example(self) -> Mapping[str, str]:
        """An object made of its fields' examples."""
        return {field.name: field.example for field in self.fields}

    def read(self, value: Any, place: str) -> Mapping[str, str]:
        """Return the object's fields that are there."""
        if not isinstance(value, Mapping):
            raise _mismatch(self, value, place)
        return read_fields(self.fields, value, f"{place}.")


@dataclass(frozen=True, slots=True)
class Items:
    """A list of `least` to `most` items, each a text or an object {title, category: [text, …], brand}."""

    name: str
    doc: str
    example: Sequence[Any]
    required: bool = True
    least: int = 1
    most: int = 10_000

    @property
    def kind(self) -> str:
        """The form in words."""
        return f"a list of {_count(self.least, self.most)} items, each a text or {{title, category: [text, …], brand}}"

    def read(self, value: Any, place: str) -> tuple[str | Mapping[str, Any], ...]:
        """Return the items."""
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise _mismatch(self, value, place)
        return tuple(self._item(item, f"{place}[{index}]") for index, item in enumerate(value))

    def _item(self, item: Any, place: str) -> str | Mapping[str, Any]:
        if isinstance(item, str):
            return encodable(item)
        if not isinstance(item, Mapping):
            raise _mismatch(self, item, place)
        return read_fields(_ITEM, item, f"{place}.")


_ITEM: tuple[Field, ...] = (
    Text("title", "The item's title.", "Wireless Mouse"),
    Texts("category", "Its category, the broadest level first.", ["Electronics", "Mice"], required=False, least=0),
    Text("brand", "Its brand.", "Northpoint", required=False),
)


def read_fields(fields: Sequence[Field], row: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return the fields of a row that are there, each in its form; null counts as not there, other keys are left out.

    Raises InputError for a required field that is missing (with the key that looks like it) or of the wrong form.
    """
    values: dict[str, Any] = {}
    for field in fields:
        value = row.get(field.name)
        if value is not None:
            values[field.name] = field.read(value, f"{place}{field.name}")
        elif field.required:
            others = {known.name for known in fields}
            near = get_close_matches(field.name, [str(key) for key in row if key not in others], n=1)
            hint = f"{near[0]!r} was given, which looks like it" if near else f"{_keys(row)} was given"
            raise InputError(
                f"The field {place}{field.name} is missing ({hint}): it is {field.kind}, for example {_show(field)}."
            )
    return values


def _mismatch(field: Field, value: Any, place: str) -> InputError:
    given = f"{shown(value)}, {len(value)} of them" if isinstance(value, list) else shown(value)
    return InputError(f"The field {place} was given {given}: it is {field.kind}, for example {_show(field)}.")


def shown(value: Any) -> str:
    """Return a value as JSON, or as Python where JSON cannot write it, cut to what fits a sentence."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _show(field: Field) -> str:
    return json.dumps({field.name: field.example}, ensure_ascii=False)


def _keys(row: Mapping[str, Any]) -> str:
    names = [repr(str(key)[:40]) for key, value in row.items() if value is not None]
    if not names:
        return "nothing"
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _count(least: int, most: int) -> str:
    return f"{least} to {most}" if most < 10_000 else f"at least {least}"


def encodable(text: str) -> str:
    """Return the text with lone surrogates, which JSON can carry and UTF-8 cannot, replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
