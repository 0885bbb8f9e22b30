"""Counts for Prometheus. No label comes from a client: routes, codes and stages are a fixed few."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32)


class Metrics:
    """What one server counts."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "openferret_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self.refused = Counter(
            "openferret_refused", "Requests refused or failed, by code.", ["code"], registry=registry
        )
        self.seconds = Histogram(
            "openferret_request_seconds",
            "Time to the whole reply.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_text = Histogram(
            "openferret_first_text_seconds",
            "Time to the first text of a stream.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "openferret_stage_seconds", "Time of a stage.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self.tokens = Counter("openferret_tokens", "Tokens written.", registry=registry)
        self.batch_rows = Histogram(
            "openferret_batch_rows", "Answers written together.", buckets=_ROWS, registry=registry
        )
        self.pictures = Counter(
            "openferret_pictures",
            "Pictures asked, by whether they had been read.",
            ["cache"],
            registry=registry,
        )
        self.cancelled = Counter(
            "openferret_cancelled", "Requests whose client went or whose time was up.", registry=registry
        )
        self.retries = Counter(
            "openferret_retries", "Requests asked once more, of another replica.", registry=registry
        )
        self.failures = Counter("openferret_failures", "Failures of the model's own.", registry=registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Adds a value that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """In Prometheus' text form."""
        return generate_latest(self.registry)
