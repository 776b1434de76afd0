"""How many tokens of the context an answer may need behind its prompt."""

from __future__ import annotations

import json

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.decoding import Scene, Vocabulary
from ecellm_lite.answers.extraction import NONE, Extraction
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.spans import LONGEST, SourceText, Span

# The most of the context that is kept for an open answer: its limit is no promise of its length.
SHARE = 4


def answer_room(space: Space, vocabulary: Vocabulary, context: int) -> int:
    """Return the tokens, at least 1, to keep free in a context of so many for an answer of this space.

    A closed answer needs its longest possibility. An extraction needs one value as long as the longest span that its
    texts offer for every attribute. Text and structures need their limit, but at most a quarter of the context: they
    end where it does.
    """
    if isinstance(space, Predicate):
        return 1
    scene = Scene(vocabulary, context)
    if isinstance(space, Choice):
        return max(len(scene.continuation(option.text)) for option in space.options)
    if isinstance(space, Score):
        return max(len(scene.continuation(level)) for level in space.texts or space.levels)
    if isinstance(space, Ranking):
        return len(scene.continuation(",".join(space.letters)))
    if isinstance(space, Extraction):
        return len(scene.continuation(_longest_extraction(space)))
    share = max(1, context // SHARE)
    return min(getattr(space, "max_tokens", share), share)


def _longest_extraction(space: Extraction) -> str:
    """Return an answer in which every value is the longest that the texts offer, in characters of JSON."""
    spans = [_longest_span(SourceText(source, text)) for source, text in space.sources.items()]
    longest = max([NONE, *spans], key=lambda span: len(span.json)).json
    objects = [f'{{"attribute": {json.dumps(name.lower())}, "value":{longest}' for name in space.attributes]
    return f"[{', '.join(objects)}]"


def _longest_span(text: SourceText) -> Span:
    last = len(text.starts) - 1
    spans = (text.text[start : text.ends[min(word + LONGEST - 1, last)]] for word, start in enumerate(text.starts))
    return Span(max(spans, key=lambda span: len(json.dumps(span)), default=""), text.source)
