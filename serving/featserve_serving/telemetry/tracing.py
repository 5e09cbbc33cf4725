"""OpenTelemetry spans, where an endpoint is configured and the `otel` extra is installed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from ..errors import RequestError
from .call import Call

_LOGGER = logging.getLogger(__name__)
_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracer:
    """Makes one span for each call; a caller's `traceparent` becomes its parent.

    Args:
        provider: the SDK's `TracerProvider`, or `None` to make no spans.
    """

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        if provider is not None:
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            self._tracer = provider.get_tracer("featserve")
            self._propagator = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def span(self, call: Call) -> Iterator[Span]:
        """Returns the span around a call."""
        if self._provider is None:
            yield _NO_SPAN
            return
        from opentelemetry.trace import SpanKind

        parent = self._propagator.extract(call.headers)
        with self._tracer.start_as_current_span(
            call.method, context=parent, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            yield Span(span)

    def close(self) -> None:
        """Sends the spans that are not sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


class Span:
    """A span of the SDK's, or `None`, that is told what its call turned out to be."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, call: Call, error: RequestError | None) -> None:
        """Writes down the outcome of the call."""
        if self._span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attributes(
            {
                "rpc.system": call.entrypoint.lower(),
                "rpc.status": error.status if error else "OK",
                "featserve.request_id": call.request_id,
                "featserve.model": call.model,
                "featserve.version": call.version or 0,
                "featserve.signature": call.signature,
                "featserve.runtime_s": call.runtime_s or 0.0,
            }
        )
        self._span.set_status(Status(StatusCode.OK if error is None else StatusCode.ERROR))


_NO_SPAN = Span(None)


def create_tracer() -> Tracer:
    """Returns a tracer that exports to the endpoint of the environment, or one that does nothing."""
    if not any(os.environ.get(name) for name in _ENDPOINT_VARIABLES):
        return Tracer()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as exc:
        _LOGGER.warning("no traces although an endpoint is set: %s is missing: pip install 'featserve[otel]'", exc.name)
        return Tracer()
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "featserve")})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracer(provider)
