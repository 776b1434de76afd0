"""Makes the matchers of grammars. A matcher is an object of llguidance that says which tokens may come next.

Compiling a grammar of thousands of texts takes 50 ms, and copying its matcher takes 0.05 ms. So a matcher is compiled
once for each vocabulary, and each answer gets a copy.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

from ecellm_lite.answers.decoding import Vocabulary

# How many grammars are kept for each vocabulary.
GRAMMARS = 16

_matchers: WeakKeyDictionary[Vocabulary, dict[str, Any]] = WeakKeyDictionary()
_lock = threading.Lock()


def new_matcher(vocabulary: Vocabulary, compiled: str) -> Any:
    """Return a new `LLMatcher` for the grammar `compiled`, which is in llguidance's own format.

    The matcher has read no tokens yet. Any thread may call this function.
    """
    from llguidance import LLMatcher

    with _lock:
        matchers = _matchers.setdefault(vocabulary, {})
        matcher = matchers.pop(compiled, None)
        if matcher is None:
            matcher = LLMatcher(vocabulary.grammar_tokenizer(), compiled, log_level=0)
        matchers[compiled] = matcher  # the last one is the most recently used
        if len(matchers) > GRAMMARS:
            del matchers[next(iter(matchers))]
        return matcher.deep_copy()
