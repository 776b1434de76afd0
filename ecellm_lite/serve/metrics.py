"""The metrics for Prometheus: requests, rows, tokens, times, coverage, waiting rows and engine restarts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ecellm_lite.answers.answer import Answer

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SHARES = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)


class Metrics:
    """The metrics of one server. Labels are routes, codes and task names, never text from a client."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("ecellm_requests", "HTTP requests.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "ecellm_request_seconds", "Seconds to a response.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._rows = Counter("ecellm_rows", "Rows and questions.", ["task", "outcome"], registry=registry)
        self._row_seconds = Histogram(
            "ecellm_row_seconds", "Seconds that a row ran.", ["task"], buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter("ecellm_tokens", "Tokens.", ["kind"], registry=registry)
        self._coverage = Histogram(
            "ecellm_coverage", "Coverage of answers.", ["task"], buckets=_SHARES, registry=registry
        )

    def watch(self, name: str, help_: str, value: Callable[[], float]) -> None:
        """Add a gauge; `value` is called each time the metrics are read."""
        Gauge(name, help_, registry=self._registry).set_function(value)

    def count(self, task: str, answers: Sequence[Answer]) -> None:
        """Count the answers to a task, with their tokens, times and coverage."""
        for answer in answers:
            outcome = answer.error.code if answer.error else "abstained" if answer.abstained else "answered"
            self._rows.labels(task, outcome).inc()
            if answer.seconds is not None:
                self._row_seconds.labels(task).observe(answer.seconds)
            if answer.coverage is not None:
                self._coverage.labels(task).observe(answer.coverage)
            if usage := answer.usage:
                self._tokens.labels("prompt").inc(usage.prompt_tokens)
                self._tokens.labels("cached").inc(usage.cached_tokens or 0)
                self._tokens.labels("decoded").inc(usage.decoded_tokens)
                self._tokens.labels("forced").inc(usage.forced_tokens)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
