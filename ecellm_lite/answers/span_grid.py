"""Lists the spans of a row's texts that may be an attribute's value, and lets the model choose one of them."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass

from ecellm_lite.answers.candidates import Candidates, ChosenCandidate, walk
from ecellm_lite.answers.decoding import Logits, Scene, Step
from ecellm_lite.answers.spans import NONE, SourceText, Span
from ecellm_lite.answers.tape import Tape


@dataclass(frozen=True, slots=True)
class _End:
    """A span with the text that follows it in the answer, and the tokens of both."""

    span: Span
    close: str
    row: list[int]


class SpanGrid:
    """The spans (runs of words) of a row's texts that may be a value, tokenized in two steps.

    A title of 25 words has about 250 spans, and a description has thousands. So the first step tokenizes only the
    beginnings of the spans (heads). Once a head is chosen, the second step tokenizes the spans that begin with it.

    `words`: the number of different words of each text, summed over the texts.
    """

    # The length of a head in tokens: the opening quote, which may include a character of the value, and the next one.
    HEAD = 2

    def __init__(self, scene: Scene, texts: list[SourceText]) -> None:
        self._scene = scene
        self._heads: dict[tuple[int, ...], list[tuple[SourceText, int]]] = {self._head(NONE): []}
        self._by_head: dict[tuple[tuple[int, ...], tuple[str, ...]], tuple[list[_End], Candidates]] = {}
        self.words = sum(len(text.words) for text in texts)
        for text in texts:
            for word in range(len(text.starts)):
                # The head's tokens do not reach past the second word, so longer spans have the same heads.
                for head in {self._head(span) for span in text.spans(word, most=2)}:
                    self._heads.setdefault(head, []).append((text, word))

    def choose(
        self, closes: tuple[str, ...], tape: Tape, without: Collection[Span] = ()
    ) -> Generator[Step, Logits, tuple[Span, str, ChosenCandidate]]:
        """Choose a span and the text that follows it. Append both to the tape (the answer's tokens so far).

        NONE is the span that says that the attribute has no value.

        `closes`: the texts that may follow the span. After NONE, only the first of these texts may follow.
        `without`: spans that were chosen before and cannot be chosen again. If there are any, NONE cannot
        be chosen either.

        Returns the span, the text that follows it, and how likely the choice was.
        """
        end = self._scene.end
        heads = list(self._heads)
        if without:
            taken = {*without, NONE}
            maybe_used_up = {self._head(span) for span in taken}
            heads = [head for head in heads if head not in maybe_used_up or self._left(head, closes, taken)]
        head = yield from walk(Candidates(heads, end), tape)
        ends, candidates = self._beginning_with(heads[head.index], closes)
        if without:
            ends = self._left(heads[head.index], closes, taken)
            candidates = Candidates([each.row for each in ends], end)
        rest = yield from walk(candidates, tape, depth=self.HEAD)
        return ends[rest.index].span, ends[rest.index].close, head.then(rest)

    def _left(self, head: tuple[int, ...], closes: tuple[str, ...], taken: Collection[Span]) -> list[_End]:
        return [each for each in self._beginning_with(head, closes)[0] if each.span not in taken]

    def _beginning_with(self, head: tuple[int, ...], closes: tuple[str, ...]) -> tuple[list[_End], Candidates]:
        if (head, closes) not in self._by_head:
            spans = {span: None for text, word in self._heads[head] for span in text.spans(word)}
            ends = [_End(span, close, self._tokens(span, close)) for span in spans for close in closes]
            ends.append(_End(NONE, closes[0], self._tokens(NONE, closes[0])))
            ends = [each for each in ends if tuple(each.row[: self.HEAD]) == head]
            self._by_head[head, closes] = ends, Candidates([each.row for each in ends], self._scene.end)
        return self._by_head[head, closes]

    def _head(self, span: Span) -> tuple[int, ...]:
        return tuple(self._tokens(span, "")[: self.HEAD])

    def _tokens(self, span: Span, close: str) -> list[int]:
        return self._scene.continuation(span.json + close, after='"value":')
