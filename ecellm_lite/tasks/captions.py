"""Captions: descriptions of products' pictures. CASLIE's models read them together with a row's texts.

A row without the key `image_caption` gets ECInstruct's prompt. For a row with the key, the caption is added to the
prompt in the same way as in CASLIE's code. A null or blank caption is written as null. (CASLIE leaves out captions that
do not help.)

Source: load_data.py and template.py of ninglab/CASLIE (arXiv 2410.17337), commit 464db57.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ecellm_lite.tasks.fields import CAPTION, Field, TextField, read_fields

NAME = CAPTION.name

# The key of the input that CASLIE's models were trained with.
KEY = "product information extracted from image"


def with_caption(fields: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a prompt's fields with the product picture's caption added, if the row has the key `image_caption`."""
    return {**fields, KEY: row[NAME]} if NAME in row else dict(fields)


@dataclass(frozen=True, slots=True)
class TitleField:
    """A field with a product's title. Its value is a text, or an object with the keys `title` and `image_caption`."""

    name: str
    doc: str
    example: str
    required: bool = True
    kind: ClassVar[str] = "text, or an object with title and image_caption (optional)"

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the object that a row may have in place of a title: the title and the picture's caption."""
        return (TextField("title", self.doc, self.example), CAPTION)

    def read(self, value: Any, place: str) -> str | Mapping[str, Any]:
        """Return the title as a text or, if `value` is an object, as an object with the title and the caption."""
        if isinstance(value, Mapping):
            return read_fields(self.fields, value, f"{place}.")
        return TextField(self.name, self.doc, self.example).read(value, place)


def title_of(product: str | Mapping[str, Any]) -> str:
    """Return a product's title. `product` is a value that TitleField returned."""
    return product if isinstance(product, str) else str(product["title"])


def caption_of(product: str | Mapping[str, Any]) -> str | None:
    """Return a product's image caption, or None. `product` is a value that TitleField returned."""
    return None if isinstance(product, str) else product.get(NAME)


def has_caption(product: str | Mapping[str, Any]) -> bool:
    """Return whether a product has the key `image_caption`. The caption itself may be null."""
    return not isinstance(product, str) and NAME in product


def text_with_caption(text: str, product: str | Mapping[str, Any]) -> str:
    """Return an item's text, followed by the product's caption if the product has one."""
    caption = caption_of(product)
    return text if caption is None else f"{text} {caption}"
