"""Metrics: TensorFlow Serving's names, and beside them `featserve_*` with model, version and signature.

Reference: tensorflow_serving/servables/tensorflow/util.cc for names, labels and buckets of the first kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import prometheus_client
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from ..errors import RequestError
from .call import Call

_TF_COUNTER = ":tensorflow:serving:request_count"
#: Microseconds, to about 20 minutes.
_TF_BUCKETS = [10 * 1.8**power for power in range(33)]
_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]
#: What TensorFlow Serving counts as a request to a model, beside everything that comes by REST.
_MODEL_METHODS = ("Predict", "Classify", "Regress")
_ENTRYPOINTS = ("GRPC", "REST")


class Threads(Protocol):
    """The threads that compute, as far as they are measured."""

    @property
    def threads(self) -> int:
        """Calls that may have a thread."""

    @property
    def queue(self) -> int:
        """Calls that may wait for a thread; more are refused."""

    @property
    def running(self) -> int:
        """Calls that have a thread."""

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""


class Metrics:
    """The metrics of one server.

    Args:
        pool: the threads that compute.
        known_models: names of the models; any other name in a request shares one label, so that callers cannot fill
            the memory with names.
    """

    def __init__(self, pool: Threads, known_models: Callable[[], Iterable[str]]) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = prometheus_client.CollectorRegistry()
        self._known_models = known_models
        self._tf_requests = self._counter(_TF_COUNTER, "Requests by model and status.", "model_name", "status")
        self._tf_latency = self._histogram(
            ":tensorflow:serving:request_latency",
            "Microseconds of a request.",
            _TF_BUCKETS,
            "model_name",
            "API",
            "entrypoint",
        )
        self._tf_runtime = self._histogram(
            ":tensorflow:serving:runtime_latency",
            "Microseconds in TensorFlow.",
            _TF_BUCKETS,
            "model_name",
            "API",
            "runtime",
        )
        labels = ("model", "version", "signature")
        self._requests = self._counter(
            "featserve_requests", "Requests by model and status.", *labels, "method", "entrypoint", "status"
        )
        self._seconds = self._histogram("featserve_request_seconds", "Seconds of a request.", _SECONDS, *labels)
        self._received = self._counter("featserve_received_bytes", "Bytes of requests.", "entrypoint")
        self._sent = self._counter("featserve_sent_bytes", "Bytes of answers.", "entrypoint")
        self._refused = self._counter("featserve_refused", "Requests refused because the queue was full.", "entrypoint")
        for entrypoint in _ENTRYPOINTS:  # a series that begins with its first refusal would show no increase
            self._refused.labels(entrypoint)
        self._gauge("featserve_in_flight", "Requests that have a thread.", lambda: pool.running)
        self._gauge("featserve_queue_depth", "Requests that wait for a thread.", lambda: pool.waiting)
        self._gauge("featserve_in_flight_limit", "Requests that may have a thread.", lambda: pool.threads)
        self._gauge("featserve_queue_limit", "Requests that may wait; more are refused.", lambda: pool.queue)
        # Memory, processor time, descriptors and the moment of the start, under the names that every exporter uses.
        prometheus_client.ProcessCollector(registry=self.registry)

    def observe(self, call: Call, error: RequestError | None, seconds: float) -> None:
        """Records a call that ended."""
        status = error.status if error else "OK"
        model = call.model if not call.model or call.model in self._known_models() else "(unknown)"
        if call.method in _MODEL_METHODS or call.entrypoint == "REST":
            self._tf_requests.labels(model, status).inc()
            if error is None:
                self._tf_latency.labels(model, call.method, call.entrypoint).observe(seconds * 1e6)
        if call.runtime_s is not None:
            self._tf_runtime.labels(model, "Predict", "TF1").observe(call.runtime_s * 1e6)
        # Only a call that reached a version has a signature that exists.
        labels = (model, str(call.version or ""), call.signature if call.version else "")
        self._requests.labels(*labels, call.method, call.entrypoint, status).inc()
        self._seconds.labels(*labels).observe(seconds)

    def transferred(self, entrypoint: str, received: int, sent: int) -> None:
        """Records the bytes of a request and its answer."""
        self._received.labels(entrypoint).inc(received)
        self._sent.labels(entrypoint).inc(sent)

    def refused(self, entrypoint: str) -> None:
        """Records a request that was sent away because the queue was full."""
        self._refused.labels(entrypoint).inc()

    def add_models(self, states: Callable[[], Iterable[tuple[str, int, int]]]) -> None:
        """Shows each version's state, as `get_model_status.proto` numbers it."""
        self.registry.register(_ModelStates(states))

    def add_batches(self, batches: Callable[[], Iterable[tuple[str, int, list[int]]]]) -> None:
        """Shows how large the batches were that the graphs executed."""
        self.registry.register(_BatchSizes(batches))

    def page(self) -> bytes:
        """Returns everything in Prometheus' text format."""
        text = prometheus_client.generate_latest(self.registry).decode()
        # The library adds a suffix to every counter, where TensorFlow Serving has none.
        return text.replace(f"{_TF_COUNTER}_total", _TF_COUNTER).encode()

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return prometheus_client.Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: list[float], *labels: str) -> Any:
        return prometheus_client.Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        prometheus_client.Gauge(name, text, registry=self.registry).set_function(value)


class _ModelStates(Collector):
    def __init__(self, states: Callable[[], Iterable[tuple[str, int, int]]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Any]:
        family = GaugeMetricFamily(
            "featserve_model_version_state",
            "State of a version: 10 start, 20 loading, 30 available, 40 unloading, 50 end.",
            labels=("model", "version"),
        )
        for model, version, state in self._states():
            family.add_metric((model, str(version)), state)
        yield family


class _BatchSizes(Collector):
    def __init__(self, batches: Callable[[], Iterable[tuple[str, int, list[int]]]]) -> None:
        self._batches = batches

    def collect(self) -> Iterator[Any]:
        family = HistogramMetricFamily(
            "featserve_executed_batch_size",
            "Images of the batches that were executed, padding included.",
            labels=("model", "version"),
        )
        for model, version, counts in self._batches():
            total, buckets = 0, []
            for size, count in enumerate(counts):
                total += count
                if size and size & (size - 1) == 0:
                    buckets.append((str(float(size)), float(total)))
            buckets.append(("+Inf", float(total)))
            images = sum(size * count for size, count in enumerate(counts))
            family.add_metric((model, str(version)), buckets, images)
        yield family
