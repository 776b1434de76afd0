"""Attributes and their values, which are always copied from the product's own texts.

The answer is JSON in exactly ECInstruct's form, for example `[{"attribute": "color", "value": "navy blue", "source":
"product title"}, …]`. It has one object for each requested attribute, in the order of the request. If the model finds
no value, both the value and the source are `"None"`. In ECInstruct, an attribute may have several values. This project
answers with one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.calibration import tempered_odds
from ecellm_lite.answers.candidates import Candidates, Walked, walk
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Decoding, Logits, Outcome, Scene, Step
from ecellm_lite.answers.details import Detail
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.spans import SourceText, Span
from ecellm_lite.answers.tape import Tape
from ecellm_lite.errors import InputError

NONE = Span("None", "None")

# Punctuation marks count as words, and one token can hold many, so the context size does not limit a row's work.
MAX_WORDS = 10_000


@dataclass(frozen=True, slots=True)
class Extraction(Space):
    """A space whose answers give each attribute a value: a span of one of the product's texts, or None.

    There is at least one attribute. `sources` maps the names of the product's texts to the texts.
    """

    attributes: tuple[str, ...]
    sources: Mapping[str, str]
    type: ClassVar[str] = "extraction"
    scored: ClassVar[bool] = True
    biased: ClassVar[bool] = True

    def decode(self, scene: Scene) -> Decoding:
        """Choose one span for each attribute in turn; the JSON between the values is forced.

        An entry's probability is the product of the probabilities of its choices. The answer's probability is the
        product of its entries' probabilities. The answer's coverage is the lowest coverage of any choice.
        """
        texts = [SourceText(source, text) for source, text in self.sources.items()]
        words = sum(len(text.starts) for text in texts)
        if words > MAX_WORDS:
            message = f"The product's texts have {words:,} words and signs"
            raise InputError(message, step=f"shorten them to at most {MAX_WORDS:,}")
        grid = _Grid(scene, texts)
        tape = Tape()
        tape.force(scene.continuation('[{"attribute":'))
        entries: list[dict[str, Any]] = []
        objects: list[str] = []
        probability = coverage = 1.0
        for place, attribute in enumerate(self.attributes, start=1):
            name = json.dumps(attribute.lower())
            # Each piece begins with a space, where tokenizers start a new token, so it can be tokenized alone.
            tape.force(scene.continuation(f' {name}, "value":', after='{"attribute":'))
            close = "]" if place == len(self.attributes) else ', {"attribute":'
            span, walked = yield from grid.choose(close, tape)
            has_value = span != NONE
            entries.append(
                {
                    "attribute": attribute,
                    "value": span.value if has_value else None,
                    "source": span.source if has_value else None,
                    "probability": walked.probability,
                }
            )
            objects.append(f'{{"attribute": {name}, "value":{span.json}')
            probability *= walked.probability
            coverage = min(coverage, walked.coverage)
        text = f"[{', '.join(objects)}]"
        return Outcome(entries, text, tape.tokens, probability=probability, coverage=coverage)

    def normalized(self, text: str) -> str:
        """Return the answer string for a JSON object {attribute: value}; a missing attribute has the value None.

        The source of a value is the first text that contains it. `text` may also be an answer string already.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            return Space.normalized(self, text)
        lowered = {str(name).lower(): value for name, value in values.items()}
        if unknown := lowered.keys() - set(self._names):
            attributes = ", ".join(self.attributes)
            raise InputError(
                f"{min(unknown)!r} is not one of the row's attributes", step=f"give values of {attributes}"
            )
        return self._answer_text({name: self._span(name, lowered.get(name)) for name in self._names})

    def value_of(self, text: str) -> list[dict[str, Any]]:
        """Return an entry for each attribute, with its first value in the answer string."""
        entries = {entry["attribute"]: entry for entry in reversed(self.parse(text))}
        firsts = [entries.get(name.lower(), {}) for name in self.attributes]
        return [
            {"attribute": name, "value": entry.get("value"), "source": entry.get("source"), "probability": None}
            for name, entry in zip(self.attributes, firsts, strict=True)
        ]

    def longest(self, scene: Scene) -> int:
        """Return the number of tokens of the longest answer: each value is the span with the longest JSON."""
        spans = [SourceText(source, text).longest for source, text in self.sources.items()]
        longest = max([NONE, *spans], key=lambda span: len(span.json))
        return len(scene.continuation(self._answer_text(dict.fromkeys(self._names, longest))))

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return the outcome with a calibrated probability for each entry and for the whole answer.

        Each entry is treated as a choice between its own value and any other value.
        """
        if temperature == 1.0 and bias == 0.0:
            return outcome
        entries = [
            {**entry, "probability": tempered_odds(entry["probability"], temperature, bias)} for entry in outcome.value
        ]
        return replace(outcome, value=entries, probability=math.prod(entry["probability"] for entry in entries))

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Return one claim per entry: that the attribute has this value from this source, or that it has no value.

        A claim is correct if the gold answer has the same entry. The claim that there is no value is also correct if
        the gold answer does not mention the attribute. Further values of the attribute in the gold answer do not make a
        claim wrong.
        """
        gold_values: dict[str, set[tuple[str | None, str | None]]] = {}
        for entry in self.parse(gold):
            gold_values.setdefault(str(entry["attribute"]).lower(), set()).add((entry["value"], entry["source"]))
        claims = []
        for entry in answer.value:
            correct = (entry["value"], entry["source"]) in gold_values.get(entry["attribute"].lower(), {(None, None)})
            claims.append(Claim((entry["probability"], 1.0 - entry["probability"]), 0 if correct else 1))
        return tuple(claims)

    def constants(self, golds: Sequence[str]) -> tuple[str, ...]:
        """Return the answer in which no attribute has a value."""
        return (self._answer_text(dict.fromkeys(self._names, NONE)),)

    def headline(self, answer: Answer) -> str:
        """Return how many of the attributes were found."""
        present = sum(entry["value"] is not None for entry in answer.value)
        return f"{present} of {len(answer.value)} attributes found"

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return each attribute with its value, source and probability; no lines for an abstention."""
        return tuple(
            Detail(
                entry["attribute"],
                "none" if entry["value"] is None else entry["value"],
                entry["source"] or "",
                entry["probability"],
                chosen=entry["value"] is not None,
            )
            for entry in answer.value or ()
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name.lower() for name in self.attributes)

    def _span(self, name: str, value: Any) -> Span:
        """Return the span for a value that a person wrote, in the first source that contains it."""
        if value is None or str(value).strip().lower() in ("", "none"):
            return NONE
        words = str(value).strip().lower()
        for source, text in self.sources.items():
            if words in text.lower():
                return Span(words, source)
        raise InputError(f"The value {words[:80]!r} of {name} is in none of the row's texts", step="copy it from one")

    def _answer_text(self, spans: Mapping[str, Span]) -> str:
        """Return the answer string for the values in `spans`, whose keys are the attributes' names in lower case."""
        objects = [f'{{"attribute": {json.dumps(name)}, "value":{spans[name].json}' for name in self._names]
        return f"[{', '.join(objects)}]"

    def parse(self, text: str) -> list[dict[str, str | None]]:
        """Return the entries of an answer string; the values "None" and null become None.

        Raises InputError if the text is not such an answer.
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


class _Grid:
    """The candidate spans of a row's texts, tokenized in two steps: first their beginnings (heads), then the rest.

    A title of 25 words has about 250 spans and a description thousands. Once a head is chosen, only the spans that
    begin with it are tokenized in full.
    """

    # The length of a head in tokens: the opening quote, which may include a character of the value, and the next one.
    HEAD = 2

    def __init__(self, scene: Scene, texts: list[SourceText]) -> None:
        self._scene = scene
        self._heads: dict[tuple[int, ...], list[tuple[SourceText, int]]] = {self._head(NONE): []}
        self._by_head: dict[tuple[tuple[int, ...], str], tuple[list[Span], Candidates]] = {}
        for text in texts:
            for word in range(len(text.starts)):
                # The head's tokens do not reach past the second word, so longer spans have the same heads.
                for head in {self._head(span) for span in text.spans(word, most=2)}:
                    self._heads.setdefault(head, []).append((text, word))

    def choose(self, close: str, tape: Tape) -> Generator[Step, Logits, tuple[Span, Walked]]:
        """Choose a span or NONE, and append it and the text `close` to the tape.

        Return the span, and how likely the choice was.
        """
        heads = list(self._heads)
        end = self._scene.end
        head = yield from walk(Candidates(heads, end), tape)
        spans, candidates = self._beginning_with(heads[head.index], close)
        rest = yield from walk(candidates, tape, depth=self.HEAD)
        walked = Walked(rest.index, head.probability * rest.probability, min(head.coverage, rest.coverage))
        return spans[rest.index], walked

    def _beginning_with(self, head: tuple[int, ...], close: str) -> tuple[list[Span], Candidates]:
        if (head, close) not in self._by_head:
            spans = {span: None for text, word in self._heads[head] for span in text.spans(word)} | {NONE: None}
            rows = {span: row for span in spans if tuple((row := self._tokens(span, close))[: self.HEAD]) == head}
            self._by_head[head, close] = list(rows), Candidates(list(rows.values()), self._scene.end)
        return self._by_head[head, close]

    def _head(self, span: Span) -> tuple[int, ...]:
        return tuple(self._tokens(span, "")[: self.HEAD])

    def _tokens(self, span: Span, close: str) -> list[int]:
        return self._scene.continuation(span.json + close, after='"value":')
