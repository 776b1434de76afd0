"""The answer space of attributes and their values. By default, each value is copied from one of the product's texts.

The answer is JSON in exactly ECInstruct's form, for example `[{"attribute": "color", "value": "navy blue", "source":
"product title"}, …]`. It has one object for each requested attribute, in the order of the request. If the model finds
no value, both the value and the source are `"None"`.

A user may give an attribute a form (see attribute_forms.py). If the form allows several values, there may be an object
for each value. After each value, the model chooses between another value and the next attribute. If the form has a
closed list of values, the model chooses a value from the list, and then the source of this value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ecellm_lite.answers.answer import Answer, AnswerWarning
from ecellm_lite.answers.attribute_forms import PLAIN, AttributeForm
from ecellm_lite.answers.calibration import tempered_odds
from ecellm_lite.answers.candidates import Candidates, ChosenCandidate, walk
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.closed_values import ClosedValues
from ecellm_lite.answers.decoding import Decoding, Logits, Outcome, Scene, Step
from ecellm_lite.answers.details import Detail
from ecellm_lite.answers.entries import add_form, plain_entry, typed_text
from ecellm_lite.answers.places import Origin
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.span_grid import SpanGrid
from ecellm_lite.answers.spans import NONE, SourceText, Span
from ecellm_lite.answers.tape import Tape
from ecellm_lite.answers.written_values import WrittenValues
from ecellm_lite.errors import InputError

# What follows an entry: the end of the answer, or another entry.
_LAST = "]"
_NEXT = ', {"attribute":'
_SOURCE = '"source":'

# Punctuation marks count as words, and one token can hold many, so the context size does not limit a row's work.
MAX_WORDS = 10_000


@dataclass(frozen=True, slots=True)
class Extraction(Space):
    """A space whose answers give each attribute a value: by default a span of one of the product's texts, or None.

    - `attributes`: the names of the attributes, at least one.
    - `sources`: the product's texts by their names.
    - `forms`: how many and which values an attribute may have, by the attribute's index. By default, an attribute may
      have one value, which may be any span.
    - `origins`: where a source's text is in the row. By default, it is the field with the source's name.
    """

    attributes: tuple[str, ...]
    sources: Mapping[str, str]
    forms: Mapping[int, AttributeForm] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    type: ClassVar[str] = "extraction"
    scored: ClassVar[bool] = True
    biased: ClassVar[bool] = True

    def decode(self, scene: Scene) -> Decoding:
        """Choose one span for each attribute, one attribute after the other.

        The model does not choose the JSON around the values.

        For each value, the model chooses whether there is one, and which span it is. The value's probability is the
        product of the probabilities of these choices. The answer's probability is the product of its values'
        probabilities. The answer's coverage is the lowest coverage of any choice.
        """
        texts = self._texts
        words = sum(len(text.starts) for text in texts.values())
        if words > MAX_WORDS:
            message = f"The product's texts have {words:,} words and punctuation marks"
            raise InputError(message, step=f"shorten them to at most {MAX_WORDS:,}")
        grid = SpanGrid(scene, list(texts.values()))
        tape = Tape()
        tape.force(scene.continuation('[{"attribute":'))
        tape.force(self._name_tokens(scene, 0))
        entries: list[dict[str, Any]] = []
        spans: list[tuple[int, Span]] = []
        warnings: list[AnswerWarning] = []
        probability = coverage = 1.0
        for index in range(len(self.attributes)):
            for span, walked in (yield from self._values(index, scene, grid, tape)):
                entries.append(self._entry(index, span, texts, walked.probability, warnings))
                spans.append((index, span))
                probability *= walked.probability
                coverage = min(coverage, walked.coverage)
        return Outcome(
            entries,
            self._answer(spans),
            tape.tokens,
            probability=probability,
            coverage=coverage,
            warnings=tuple(warnings),
        )

    def _values(
        self, index: int, scene: Scene, grid: SpanGrid, tape: Tape
    ) -> Generator[Step, Logits, list[tuple[Span, ChosenCandidate]]]:
        """Choose the values of an attribute, and append the next attribute's name to the tape (the answer so far).

        Before the call, the tape ends with this attribute's name. After each value, the model chooses how to go on. It
        repeats this attribute's name before another value, or it writes the next attribute's name, or it ends the
        answer.
        """
        own = self._name_tokens(scene, index)
        next_ = self._name_tokens(scene, index + 1) if index + 1 < len(self.attributes) else None
        form = self._form(index)
        closed = form.values
        values: list[tuple[Span, ChosenCandidate]] = []
        again = True
        while again:
            spans = [span for span, _ in values]
            most = min(form.at_most, len(closed.by_text) if closed else grid.words)
            more = len(spans) + 1 < most and own != next_
            closes = (_NEXT,) if next_ else (_LAST, _NEXT) if more else (_LAST,)
            if closed:
                span, close, walked = yield from self._closed(closed, scene, closes, tape, spans)
            else:
                span, close, walked = yield from grid.choose(closes, tape, without=spans)
            again = more and close == _NEXT and span != NONE
            if again and next_:
                name = yield from walk(Candidates([own, next_], scene.end), tape)
                walked, again = walked.then(name), name.index == 0
            elif again:
                tape.force(own)
            elif next_:
                tape.force(next_)
            values.append((span, walked))
        return values

    def _closed(
        self, closed: ClosedValues, scene: Scene, closes: tuple[str, ...], tape: Tape, without: Sequence[Span]
    ) -> Generator[Step, Logits, tuple[Span, str, ChosenCandidate]]:
        """Choose a value of a closed list, and then its source. Append both to the tape (the answer's tokens so far).

        `closes`: the texts that may follow the source. If there is no value, only the first of them may follow.
        `without`: values that were chosen before and cannot be chosen again. If there are any, "no value" cannot be
        chosen either.

        Returns the value with its source, the text that follows them, and how likely the choice was.
        """
        value, walked = yield from closed.choose(scene, tape, {span.value for span in without})
        if value == NONE.value:
            tape.force(scene.continuation(f' "{NONE.source}"}}{closes[0]}', after=_SOURCE))
            return NONE, closes[0], walked
        ends = [(source, close) for source in self.sources for close in closes]
        rows = [scene.continuation(f" {json.dumps(source)}}}{close}", after=_SOURCE) for source, close in ends]
        chosen = yield from walk(Candidates(rows, scene.end), tape)
        source, close = ends[chosen.index]
        return Span(value, source), close, walked.then(chosen)

    def normalized(self, text: str) -> str:
        """Return the answer string for a JSON object {attribute: value}. A missing attribute has the value None.

        The source of a value is the first of the product's texts that contains it. If `text` is an answer string
        already, check it and return it unchanged. Raises InputError if it is neither.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, list):
            return Space.normalized(self, text)
        if not isinstance(values, dict):
            message = f"The answer {text[:80]!r} is not a JSON object of attributes and values"
            raise InputError(message, step='write it as {"color": "navy blue"}')
        return self._answer(self._written.of_object(values))

    def written(self, output: str | list[Any]) -> str:
        """Return the answer string for the output of a labelled row. A string is returned unchanged.

        The output may also be a list of objects such as {"attribute": "color", "value": "navy", "source": "title"}, as
        WrittenValues.of_entries reads them.
        """
        return output if isinstance(output, str) else self._answer(self._written.of_entries(output))

    def value_of(self, text: str) -> list[dict[str, Any]]:
        """Return the entries of an answer string. Values beyond an attribute's maximum number are left out."""
        return self._entries(text, [])

    def warnings_of(self, text: str) -> tuple[AnswerWarning, ...]:
        """Return warnings about an answer string: one for each value that cannot be read in its attribute's type."""
        warnings: list[AnswerWarning] = []
        self._entries(text, warnings)
        return tuple(warnings)

    def _entries(self, text: str, warnings: list[AnswerWarning]) -> list[dict[str, Any]]:
        spans: dict[str, list[Span]] = {}
        for entry in self.parse(text):
            span = Span(entry["value"] or NONE.value, entry["source"] or NONE.source)
            spans.setdefault(str(entry["attribute"]), []).append(NONE if entry["value"] is None else span)
        texts = self._texts
        return [
            self._entry(index, span, texts, None, warnings)
            for index, name in enumerate(self._names)
            for span in spans.get(name, [NONE])[: self._form(index).at_most]
        ]

    def longest(self, scene: Scene) -> int:
        """Return the number of tokens of the longest possible answer.

        In this answer, each attribute has as many values as its form allows, and each value is the longest one.
        """
        longest = max([NONE, *(text.longest for text in self._texts.values())], key=lambda span: len(span.json))
        spans = [
            (index, self._longest_listed(index) or longest)
            for index in range(len(self.attributes))
            for _ in range(self._form(index).at_most)
        ]
        return len(scene.continuation(self._answer(spans)))

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return the answer, with calibrated probabilities of each entry and of the whole answer.

        An entry is an attribute with its value. The calibration treats it as a choice between this value and all other
        values together, and corrects the entry's probability by `temperature` and `bias`.
        """
        if temperature == 1.0 and bias == 0.0:
            return outcome
        entries = [
            {**entry, "probability": tempered_odds(entry["probability"], temperature, bias)} for entry in outcome.value
        ]
        return replace(outcome, value=entries, probability=math.prod(entry["probability"] for entry in entries))

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Return a claim (decision) for each entry, such as "the color is navy, from the title" or "there is no size".

        A claim is correct if the gold answer has the same entry. A claim "there is no …" is also correct if the gold
        answer does not mention the attribute. If the gold answer has two values and the entry has one of them, the
        claim is correct. If an attribute has a closed list of values, the source need not be the same.
        """
        gold_values: dict[str, set[tuple[str | None, str | None]]] = {}
        for entry in self.parse(gold):
            gold_values.setdefault(str(entry["attribute"]).lower(), set()).add((entry["value"], entry["source"]))
        closed = {self.attributes[index] for index, form in self.forms.items() if form.values}
        claims = []
        for entry in answer.value:
            pairs = gold_values.get(entry["attribute"].lower(), {(None, None)})
            if entry["attribute"] in closed:  # a source is no part of a value that the texts need not contain
                correct = str(entry["value"]).lower() in {str(value).lower() for value, _ in pairs}
            else:
                correct = (entry["value"], entry["source"]) in pairs
            claims.append(Claim((entry["probability"], 1.0 - entry["probability"]), 0 if correct else 1))
        return tuple(claims)

    def constants(self, golds: Sequence[str]) -> tuple[str, ...]:
        """Return the only constant baseline: the answer string in which every attribute has the value "None"."""
        return (self._answer([(index, NONE) for index in range(len(self.attributes))]),)

    def headline(self, answer: Answer) -> str:
        """Return a text such as "3 of 5 attributes found"."""
        present = {entry["attribute"] for entry in answer.value if entry["value"] is not None}
        return f"{len(present)} of {len({*self.attributes})} attributes found"

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return a line for each value that was found, and for each attribute without a value.

        A line has the attribute's name, and the value with its source, typed value and probability.

        An abstention has no lines.
        """
        return tuple(
            Detail(
                entry["attribute"],
                "none" if entry["value"] is None else entry["value"],
                ", ".join(filter(None, (entry["source"], typed_text(entry)))),
                entry["probability"],
                chosen=entry["value"] is not None,
            )
            for entry in answer.value or ()
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name.lower() for name in self.attributes)

    @property
    def _written(self) -> WrittenValues:
        return WrittenValues(
            self.attributes, [self._form(index) for index in range(len(self.attributes))], self.sources
        )

    def _answer(self, spans: Sequence[tuple[int, Span]]) -> str:
        """Return the answer string for `spans`, which are pairs of an attribute's index and its value."""
        objects = (f'{{"attribute": {json.dumps(self._names[index])}, "value":{span.json}' for index, span in spans)
        return f"[{', '.join(objects)}]"

    @property
    def _texts(self) -> dict[str, SourceText]:
        return {source: SourceText(source, text) for source, text in self.sources.items()}

    def _longest_listed(self, index: int) -> Span | None:
        values = self._form(index).values
        source = max(self.sources, key=len, default=NONE.source)
        return Span(max(values.by_text, key=lambda text: len(json.dumps(text))), source) if values else None

    def _form(self, index: int) -> AttributeForm:
        return self.forms.get(index, PLAIN)

    def _name_tokens(self, scene: Scene, index: int) -> list[int]:
        # Each piece begins with a space, where tokenizers start a new token, so it can be tokenized alone.
        return scene.continuation(f' {json.dumps(self._names[index])}, "value":', after='{"attribute":')

    def _entry(
        self,
        index: int,
        span: Span,
        texts: Mapping[str, SourceText],
        probability: float | None,
        warnings: list[AnswerWarning],
    ) -> dict[str, Any]:
        """Return the answer's entry for an attribute: its name, its value (`span`), and where the value comes from.

        Problems with the value are added to `warnings`.
        """
        text, origin = texts.get(span.source), self.origins.get(span.source) or Origin(span.source)
        entry = plain_entry(self.attributes[index], span, text, origin, probability)
        if form := self.forms.get(index):
            warnings += add_form(entry, form, span, text, origin)
        return entry

    def parse(self, text: str) -> list[dict[str, str | None]]:
        """Return the entries of an answer string. The values "None" and null become None.

        Raises InputError if the text is not an answer string.
        """
        try:
            entries = json.loads(text)
            if not isinstance(entries, list):
                raise ValueError(f"it is {type(entries).__name__}")
            return [
                {
                    "attribute": str(entry["attribute"]),
                    "value": None if entry["value"] in (None, NONE.value) else str(entry["value"]),
                    "source": None if entry["source"] in (None, NONE.source) else str(entry["source"]),
                }
                for entry in entries
            ]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            message = f"The answer {text[:80]!r} is not a JSON list of attribute, value and source ({error})"
            step = 'write it as [{"attribute": "color", "value": "blue", "source": "product title"}]'
            raise InputError(message, step=step) from None
