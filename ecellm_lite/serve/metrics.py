"""The metrics for Prometheus: requests, rows, tokens, times, coverage, waiting rows, and the models' states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ecellm_lite.answers.answer import Answer
from ecellm_lite.serve.fleet import Resident

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SHARES = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)


class Metrics:
    """The metrics of one server.

    The metrics' labels are routes, HTTP statuses, names of models and tasks, and fixed words such as error codes.
    They are never text from a client.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("ecellm_requests", "HTTP requests.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "ecellm_request_seconds", "Seconds to a response.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._rows = Counter("ecellm_rows", "Rows and questions.", ["model", "task", "outcome"], registry=registry)
        self._row_seconds = Histogram(
            "ecellm_row_seconds", "Seconds that a row ran.", ["model", "task"], buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter("ecellm_tokens", "Tokens.", ["model", "kind"], registry=registry)
        self._coverage = Histogram(
            "ecellm_coverage", "Coverage of answers.", ["model", "task"], buckets=_SHARES, registry=registry
        )

    def watch(self, name: str, help_: str, value: Callable[[], float]) -> None:
        """Add a gauge that calls `value` each time the metrics are read."""
        Gauge(name, help_, registry=self._registry).set_function(value)

    def watch_models(self, residents: Mapping[str, Resident]) -> None:
        """Add the gauges of the models. The gauges look at `residents` each time the metrics are read."""
        self._registry.register(_ModelGauges(residents))

    def count(self, model: str, task: str, answers: Sequence[Answer]) -> None:
        """Update the metrics of a model and a task with new answers: their number, tokens, times and coverage."""
        for answer in answers:
            outcome = answer.error.code if answer.error else "abstained" if answer.abstained else "answered"
            self._rows.labels(model, task, outcome).inc()
            if answer.seconds is not None:
                self._row_seconds.labels(model, task).observe(answer.seconds)
            if answer.coverage is not None:
                self._coverage.labels(model, task).observe(answer.coverage)
            if usage := answer.usage:
                self._tokens.labels(model, "prompt").inc(usage.prompt_tokens)
                self._tokens.labels(model, "cached").inc(usage.cached_tokens or 0)
                self._tokens.labels(model, "decoded").inc(usage.decoded_tokens)
                self._tokens.labels(model, "forced").inc(usage.forced_tokens)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _ModelGauges(Collector):
    """Gauges for each model: its state, requests in flight, memory, and how often it was loaded and restarted."""

    def __init__(self, residents: Mapping[str, Resident]) -> None:
        self._residents = residents

    def collect(self) -> Iterator[Metric]:
        values: dict[tuple[str, str], Callable[[Resident], float]] = {
            ("ecellm_model_ready", "Whether the model is loaded and answers."): lambda resident: (
                resident.state == "ready"
            ),
            ("ecellm_model_requests", "Requests in flight."): lambda resident: resident.requests,
            ("ecellm_model_memory_bytes", "Memory that the loaded model may take."): lambda resident: (
                resident.reserved_bytes
            ),
            ("ecellm_model_loads", "Times that the model was loaded."): lambda resident: resident.loads,
            ("ecellm_engine_restarts", "Times that an engine's process was started again."): lambda resident: (
                resident.restarts
            ),
        }
        for (name, help_), value in values.items():
            family = GaugeMetricFamily(name, help_, labels=["model"])
            for model, resident in list(self._residents.items()):
                family.add_metric([model], value(resident))
            yield family
