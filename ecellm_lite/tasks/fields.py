"""The input fields of a task.

Each field checks its value. An error names the field and shows a valid value. A field's method `read` converts a JSON
value to the form that the task needs, such as a text or a list of texts. It raises InputError for an invalid value.

A number is accepted as a text and keeps its spelling. A required field must not be null, NaN, blank or an empty list.
An optional field with such a value counts as missing. Lone surrogates, which JSON allows and UTF-8 does not, become
U+FFFD.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ecellm_lite.answers.places import Piece
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.written import WrittenNumber

if TYPE_CHECKING:
    from typing_extensions import Self

# Unicode's categories of invisible characters: control and format characters, and spaces.
_INVISIBLE = frozenset(("Cc", "Cf", "Zl", "Zp", "Zs"))


class Field(Protocol):
    """One input field of a row."""

    @property
    def name(self) -> str:
        """The field's key in a row."""

    @property
    def doc(self) -> str:
        """One sentence that describes the field."""

    @property
    def example(self) -> Any:
        """A valid value of the field."""

    @property
    def required(self) -> bool:
        """Whether a row must have the field."""

    @property
    def kind(self) -> str:
        """Words that describe a valid value, for errors and help."""

    def read(self, value: Any, place: str) -> Any:
        """Return the value in the form that the task needs.

        `place` names the field in errors, as in `product_1.title`.
        """


@dataclass(frozen=True, slots=True)
class TextField:
    """A field with a text."""

    name: str
    doc: str
    example: str
    required: bool = True
    kind: ClassVar[str] = "text"

    def read(self, value: Any, place: str) -> str:
        """Return `value` as a text. `place` names the field in errors."""
        return _text(self, value, place)


class Joined(str):
    """The texts of a list, joined with commas into one text. `pieces` says where each text begins and ends."""

    pieces: tuple[Piece, ...]

    def __new__(cls, text: str, pieces: Sequence[Piece] = ()) -> Self:
        """Return `text`, which was joined from several texts. `pieces` says where each of them begins and ends."""
        joined = super().__new__(cls, text)
        joined.pieces = tuple(pieces)
        return joined

    @classmethod
    def of(cls, texts: Mapping[int, str]) -> Joined:
        """Return the texts, joined with commas. `texts` maps each text's index in the original list to the text."""
        pieces: list[Piece] = []
        start = 0
        for item, text in texts.items():
            pieces.append(Piece(item, start, start + len(text)))
            start += len(text) + len(_BETWEEN)
        return cls(_BETWEEN.join(texts.values()), pieces)

    def first(self, length: int) -> Joined:
        """Return the first `length` characters."""
        return Joined(self[:length], self.pieces)


_BETWEEN = ", "


@dataclass(frozen=True, slots=True)
class ParagraphsField:
    """A field with a text or a list of paragraphs.

    The paragraphs are joined with a comma and a space. Blank paragraphs are left out.
    """

    name: str
    doc: str
    example: str
    required: bool = True
    kind: ClassVar[str] = "text, or a list of texts"

    def read(self, value: Any, place: str) -> str:
        """Return the text. If the value is a list of paragraphs, return them joined into one text."""
        if not isinstance(value, list):
            return _text(self, value, place)
        parts = [(index, part) for index, part in enumerate(value) if not _is_empty(part)]
        joined = Joined.of({index: _text(self, part, f"{place}[{index}]") for index, part in parts})
        _text(self, joined, place)
        return joined


@dataclass(frozen=True, slots=True)
class TextsField:
    """A field with a list of `least` to `most` texts.

    If the field is required, a blank text in the list is an error. In other fields, blank texts are left out.
    """

    name: str
    doc: str
    example: Sequence[str]
    required: bool = True
    least: int = 1
    most: int = 10_000

    @property
    def kind(self) -> str:
        """Words that describe a valid value, for errors and help."""
        return f"a list of {_count(self.least, self.most)} texts"

    def read(self, value: Any, place: str) -> tuple[str, ...]:
        """Return the list of texts as a tuple."""
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise _mismatch(self, value, place)
        parts = [(index, part) for index, part in enumerate(value) if self.required or not _is_empty(part)]
        return tuple(_text(self, part, f"{place}[{index}]") for index, part in parts)


@dataclass(frozen=True, slots=True)
class RecordField:
    """A field whose value is an object with fields of its own."""

    name: str
    doc: str
    fields: tuple[TextField, ...]
    required: bool = True

    @property
    def kind(self) -> str:
        """Words that describe a valid value, for errors and help."""
        names = ", ".join(field.name if field.required else f"{field.name} (optional)" for field in self.fields)
        return f"an object with {names}"

    @property
    def example(self) -> Mapping[str, str]:
        """An object with an example for each field."""
        return {field.name: field.example for field in self.fields}

    def read(self, value: Any, place: str) -> Mapping[str, str]:
        """Return the fields of the JSON object `value`, without those that are empty. `place` is for error messages."""
        if not isinstance(value, Mapping):
            raise _mismatch(self, value, place)
        return read_fields(self.fields, value, f"{place}.")


@dataclass(frozen=True, slots=True)
class CaptionField:
    """An optional field with the caption of a product's image. A null or blank caption is valid and becomes None."""

    name: str = "image_caption"
    doc: str = "What the product's picture shows, for CASLIE; null if there is nothing to say."
    example: str = "A black wireless mouse on a white desk."
    required: bool = False
    kind: ClassVar[str] = "text or null"
    nullable: ClassVar[bool] = True

    def read(self, value: Any, place: str) -> str | None:
        """Return the caption, or None if `value` is null or blank."""
        return None if _is_empty(value) else _text(self, value, place)


CAPTION = CaptionField()


@dataclass(frozen=True, slots=True)
class ItemsField:
    """A field with a list of `least` to `most` items.

    An item is a text, or an object {title, category: [text, …], brand}.
    """

    name: str
    doc: str
    example: Sequence[Any]
    required: bool = True
    least: int = 1
    most: int = 10_000

    @property
    def kind(self) -> str:
        """Words that describe a valid value, for errors and help."""
        return f"a list of {_count(self.least, self.most)} items, each a text or {{title, category: [text, …], brand}}"

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of an item that is an object."""
        return _ITEM

    def read(self, value: Any, place: str) -> tuple[str | Mapping[str, Any], ...]:
        """Return the list of items as a tuple. An item is a text or a mapping."""
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise _mismatch(self, value, place)
        return tuple(self._item(item, f"{place}[{index}]") for index, item in enumerate(value))

    def _item(self, item: Any, place: str) -> str | Mapping[str, Any]:
        if isinstance(item, Mapping):
            return read_fields(self.fields, item, f"{place}.")
        return _text(self, item, place)


_ITEM: tuple[Field, ...] = (
    TextField("title", "The item's title.", "Wireless Mouse"),
    TextsField("category", "Its category, the broadest level first.", ["Electronics", "Mice"], required=False, least=0),
    TextField("brand", "Its brand.", "Northpoint", required=False),
    CAPTION,
)


def read_fields(fields: Sequence[Field], row: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return the values of a row's fields by name, each converted by the field's `read`. Other keys are left out.

    The result has no entry for a missing field. But if a field is `nullable` and the row says null, its entry is None.

    Raises InputError if a required field is missing or blank, or if a value does not fit its field. The error for a
    missing field names a similar key of the row, if there is one.
    """
    values: dict[str, Any] = {}
    for field in fields:
        value = row.get(field.name)
        kept = getattr(field, "nullable", False) and field.name in row
        if kept or not _is_absent(value, field.required):
            values[field.name] = field.read(value, f"{place}{field.name}")
        elif field.required:
            others = {each.name for each in fields}
            near = get_close_matches(field.name, [str(key) for key in row if key not in others], n=1)
            hint = f"the row has {near[0]!r}, which is similar" if near else f"the row has {_keys(row)}"
            message = f"The field {place}{field.name} is missing; {hint}"
            raise InputError(message, step=_step(field), field=f"{place}{field.name}")
    return values


def _text(field: Field, value: Any, place: str) -> str:
    """Return a value as text. Raises InputError if the value is blank or neither a text nor a number."""
    text = text_of(value)
    if text is None:
        raise _mismatch(field, value, place)
    if is_blank(text):
        raise InputError(f"The field {place} is blank", step=_step(field), field=place)
    return text


def text_of(value: Any) -> str | None:
    """Return a text unchanged. Return a number as it was written: 19.50 becomes "19.50".

    Return None for any other value, such as true, false or a list.
    """
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats, which may have more digits than Python prints
        finite = False
    if not finite:
        return None
    return value.text if isinstance(value, WrittenNumber) else json.dumps(value)


def is_blank(text: str) -> bool:
    """Return whether a text is empty, or has only spaces and invisible characters."""
    return all(character.isspace() or unicodedata.category(character) in _INVISIBLE for character in text)


def _is_absent(value: Any, required: bool) -> bool:
    """Return whether a field counts as missing.

    An empty text or list in a required field does not count as missing, because `read` refuses it with a clearer error.
    """
    if isinstance(value, str | list) and required:
        return False
    return all(map(_is_empty, value)) if isinstance(value, list) else _is_empty(value)


def _is_empty(value: Any) -> bool:
    """Return whether a value is null, blank or NaN. Data frames use NaN for a missing value."""
    if isinstance(value, str):
        return is_blank(value)
    return value is None or (isinstance(value, float) and math.isnan(value))


def _mismatch(field: Field, value: Any, place: str) -> InputError:
    description = f"{shown(value)} ({len(value)} items)" if isinstance(value, list) else shown(value)
    return InputError(f"The field {place} is {description}", step=_step(field), field=place)


def _step(field: Field) -> str:
    return f"give {field.kind}, for example {json.dumps({field.name: field.example}, ensure_ascii=False)}"


def shown(value: Any) -> str:
    """Return a value as JSON, cut to fit into a sentence.

    If the value has no JSON form, return the name of its Python type.
    """
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(row: Mapping[str, Any]) -> str:
    names = [repr(str(key)[:40]) for key, value in row.items() if value is not None]
    if not names:
        return "nothing"
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _count(least: int, most: int) -> str:
    return f"{least} to {most}" if most < 10_000 else f"at least {least}"


def encodable(text: str) -> str:
    """Return the text with U+FFFD in place of lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
