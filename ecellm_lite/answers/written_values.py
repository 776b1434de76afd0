"""Reads the values that a person wrote for an extraction: as a JSON object, or as a labelled row's list of entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecellm_lite.answers.attribute_forms import AttributeForm
from ecellm_lite.answers.closed_values import ClosedValues
from ecellm_lite.answers.spans import NONE, Span
from ecellm_lite.errors import InputError


@dataclass(frozen=True, slots=True)
class WrittenValues:
    """Turns values that a person wrote into spans: each value with the source (product text) that it comes from.

    `attributes`: the names of the attributes.
    `forms`: the form of each attribute.
    `sources`: the product's texts by their names.
    """

    attributes: Sequence[str]
    forms: Sequence[AttributeForm]
    sources: Mapping[str, str]

    def of_object(self, values: Mapping[str, Any]) -> list[tuple[int, Span]]:
        """Return a pair for each value in an object {attribute: value}: the attribute's index and the value's span.

        An attribute that the object lacks gets the span NONE. The source of a value is the first text that contains it.

        Raises InputError for an unknown attribute and for too many values. Also raises it for a value that is in no
        text, unless the attribute's closed list has the value.
        """
        lowered = {str(name).lower(): value for name, value in values.items()}
        if unknown := lowered.keys() - set(self._names):
            attributes = ", ".join(self.attributes)
            raise InputError(
                f"{min(unknown)!r} is not one of the row's attributes", step=f"give values of {attributes}"
            )
        spans: list[tuple[int, Span]] = []
        for index, name in enumerate(self._names):
            written = lowered.get(name)
            at_most = self.forms[index].at_most
            several = written if isinstance(written, list) and written and at_most > 1 else [written]
            if len(several) > at_most:
                message = f"{self.attributes[index]} has {len(several)} values"
                raise InputError(message, step=f"give at most {at_most}")
            spans += [(index, self._span(index, value)) for value in several]
        return spans

    def of_entries(self, entries: Sequence[Any]) -> list[tuple[int, Span]]:
        """Return a pair for each value in a labelled row's output: the attribute's index and the value's span.

        An entry is an object such as {"attribute": "color", "value": "navy", "source": "title"}.

        - An entry without a source gets the first source that contains the value or, if none does, the first source.
        - If the attribute has a closed list of values, `value` may also be an id from the list.
        - The values null, "" and "None" mean that the attribute has no value. So does a missing entry.

        The result is in the order of the attributes. Raises InputError for an unknown attribute, and for a value that
        is not in its attribute's closed list.
        """
        spans: list[tuple[int, Span]] = []
        for entry in entries:
            name = str(entry.get("attribute")).lower() if isinstance(entry, Mapping) else None
            if name not in self._names:
                raise InputError(
                    f"The output has {str(entry)[:80]!r}", step="list objects {attribute, value}", field="output"
                )
            index, value = self._names.index(name), entry.get("value")
            if _is_none(value):
                spans.append((index, NONE))
                continue
            words = str(value).strip().lower()
            closed = self.forms[index].values
            if closed:
                words = self._listed(index, str(value), closed)
            containing = [source for source, text in self.sources.items() if words in text.lower()]
            source = str(entry.get("source") or [*containing, *self.sources][0])
            spans.append((index, Span(words, source)))
        names = {self._names[index] for index, _ in spans}
        spans += [(index, NONE) for index, name in enumerate(self._names) if name not in names]
        return sorted(spans, key=lambda pair: pair[0])

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name.lower() for name in self.attributes)

    def _span(self, index: int, value: Any) -> Span:
        """Return the span of a value that a person wrote, with the first source (text of the row) that contains it.

        `index`: the index of the value's attribute. An empty value or "none" gives NONE. Raises InputError if no source
        contains the value, unless the attribute has a closed list with this value.
        """
        if _is_none(value):
            return NONE
        words = str(value).strip().lower()
        closed = self.forms[index].values
        if closed:
            words = self._listed(index, str(value), closed)
        for source, text in self.sources.items():
            if words in text.lower():
                return Span(words, source)
        if closed:
            return Span(words, next(iter(self.sources)))
        message = f"The value {words[:80]!r} of {self._names[index]} is in none of the row's texts"
        raise InputError(message, step="copy it from one of the texts")

    def _listed(self, index: int, value: str, closed: ClosedValues) -> str:
        """Return the text of a value in an attribute's closed list (`closed`), in lower case.

        `index`: the index of the attribute.
        `value`: the listed text or its id, as a person wrote it.

        Raises InputError if the value is not in the list.
        """
        place = closed.index(value)
        if place is None:
            reason = f"The value {value.strip()[:80]!r} of {self.attributes[index]} is not in its list of values"
            raise InputError(reason, step="choose one from the list")
        return closed.labels.texts[place].lower()


def _is_none(value: Any) -> bool:
    """Return whether a value means "no value": null, an empty text, or "none" in any letter case."""
    return value is None or str(value).strip().lower() in ("", "none")
