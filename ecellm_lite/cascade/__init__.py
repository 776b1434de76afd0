"""Cascade: an Answerer that asks two or more models, from the cheapest to the best.

The first model answers each row. A row whose answer is not sure enough goes to the next model. An answer names the
model that gave it.

>>> from ecellm_lite import Cascade, Runtime
>>> with Cascade([Runtime("demo"), Runtime("eCeLLM-M:Q4_K_M")], escalate_below=0.9) as cascade:    # doctest: +SKIP
...     answer = cascade.answer("sentiment_analysis", {"review": "Works, but it is loud."})
...     print(answer.value, answer.model.name)
"""

from __future__ import annotations

from ecellm_lite.cascade.cascade import Cascade, cascade_name
from ecellm_lite.cascade.row import is_unsure
from ecellm_lite.cascade.stage import Work

__all__ = ["Cascade", "Work", "cascade_name", "is_unsure"]
