"""Interceptors for `interceptors=[...]` of either client: counts and times of calls, and OpenTelemetry spans."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from .extras import require


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """One finished call."""

    method: str
    code: grpc.StatusCode
    seconds: float


def prometheus_record(registry: Any = None) -> Callable[[CallRecord], None]:
    """Returns a function for `MetricsInterceptor` that counts and times calls for Prometheus.

    The counter `featserve_client_calls_total` has the labels `method` and `code`, the histogram
    `featserve_client_call_seconds` has `method`. What a server refuses before it counts it, and what never reaches a
    server, is seen here alone.

    Args:
        registry: the `prometheus_client.CollectorRegistry` that takes the metrics; the global one if None.

    Raises:
        MissingExtraError: prometheus-client is not installed.
        ValueError: the registry has these metrics already.

    Example:
        >>> counted = MetricsInterceptor(prometheus_record())
        >>> client = FeatureClient("localhost:8500", model="efficientnet_lite0", interceptors=[counted])
    """
    prometheus = require("prometheus_client", "prometheus", "counting calls for Prometheus")
    registry = prometheus.REGISTRY if registry is None else registry
    calls = prometheus.Counter("featserve_client_calls", "Calls that ended.", ["method", "code"], registry=registry)
    seconds = prometheus.Histogram("featserve_client_call_seconds", "Seconds of a call.", ["method"], registry=registry)

    def record(call: CallRecord) -> None:
        method = call.method.rpartition("/")[2]
        calls.labels(method, call.code.name).inc()
        seconds.labels(method).observe(call.seconds)

    return record


class MetricsInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Hands a record of each call to a function, which may feed Prometheus.

    Args:
        record: called once per call, from any thread.

    Example:
        >>> calls = []
        >>> metrics = MetricsInterceptor(calls.append)
        >>> with FeatureClient("localhost:8500", model="efficientnet_lite0", interceptors=[metrics]) as client:
        ...     client.wait_until_ready(60)
        >>> calls[0].method, calls[0].code.name
        ('/tensorflow.serving.ModelService/GetModelStatus', 'OK')
    """

    def __init__(self, record: Callable[[CallRecord], None]) -> None:
        """Keeps the function that takes the records."""
        self._record = record

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: bytes) -> Any:
        """Times a call."""
        start = time.monotonic()
        call = continuation(details, request)
        # A blocking call is over by now, and its callback runs at once; that of a future runs when the future ends.
        call.add_done_callback(
            lambda done: self._record(
                CallRecord(method=_name(details), code=done.code(), seconds=time.monotonic() - start)
            )
        )
        return call

    def for_asyncio(self) -> grpc.aio.UnaryUnaryClientInterceptor:
        """Returns the interceptor of calls that are awaited; `AsyncFeatureClient` asks for it."""
        return _AsyncMetrics(self._record)


class _AsyncMetrics(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, record: Callable[[CallRecord], None]) -> None:
        self._record = record

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: bytes) -> Any:
        start = time.monotonic()
        code = grpc.StatusCode.CANCELLED
        try:
            call = await continuation(details, request)
            code = await _code(call)
        finally:
            self._record(CallRecord(method=_name(details), code=code, seconds=time.monotonic() - start))
        return call


class OpenTelemetryInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """A client span per call, whose context travels with it (W3C traceparent).

    Args:
        tracer_provider: the provider that takes the spans; the global provider if None.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.

    Example:
        >>> tracing = OpenTelemetryInterceptor()
        >>> client = FeatureClient("localhost:8500", model="efficientnet_lite0", interceptors=[tracing])
    """

    def __init__(self, tracer_provider: Any = None) -> None:
        """Takes a tracer."""
        self._trace = require("opentelemetry.trace", "otel", "tracing")
        self._inject = require("opentelemetry.propagate", "otel", "tracing").inject
        self._tracer = self._trace.get_tracer("featserve_client", tracer_provider=tracer_provider)

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: bytes) -> Any:
        """Traces a call."""
        with self._open_span(details) as (span, carried):
            call = continuation(carried, request)
        # The span ends with the call, not here: waiting for a future's code would keep its caller from cancelling it.
        call.add_done_callback(lambda done: self._end_span(span, done.code()))
        return call

    def for_asyncio(self) -> grpc.aio.UnaryUnaryClientInterceptor:
        """Returns the interceptor of calls that are awaited; `AsyncFeatureClient` asks for it."""
        return _AsyncOpenTelemetry(self)

    @contextmanager
    def _open_span(self, details: Any) -> Iterator[tuple[Any, _Details]]:
        # The span is current while the call is made, and stays open afterwards unless making the call fails.
        name = _name(details).lstrip("/")
        service, _, method = name.partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        span = self._tracer.start_span(name, kind=self._trace.SpanKind.CLIENT, attributes=attributes)
        try:
            with self._trace.use_span(span):
                carrier: dict[str, str] = {}
                self._inject(carrier)
                yield span, _Details(details, (*(details.metadata or ()), *carrier.items()))
        except BaseException:
            span.end()
            raise

    def _end_span(self, span: Any, code: grpc.StatusCode) -> None:
        span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code is not grpc.StatusCode.OK:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, code.name))
        span.end()


class _AsyncOpenTelemetry(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, shared: OpenTelemetryInterceptor) -> None:
        self._shared = shared

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: bytes) -> Any:
        with self._shared._open_span(details) as (span, carried):
            call = await continuation(details._replace(metadata=grpc.aio.Metadata(*carried.metadata)), request)
            code = await _code(call)
        self._shared._end_span(span, code)
        return call


async def _code(call: Any) -> grpc.StatusCode:
    try:
        return await call.code()
    except asyncio.CancelledError:
        call.cancel()
        raise


class _Details(grpc.ClientCallDetails):  # type: ignore[misc]
    def __init__(self, details: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        for name in ("method", "timeout", "credentials", "wait_for_ready", "compression"):
            setattr(self, name, getattr(details, name, None))
        self.metadata = metadata


def _name(details: Any) -> str:
    method = details.method
    return method.decode() if isinstance(method, bytes) else str(method)
