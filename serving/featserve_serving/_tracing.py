"""OpenTelemetry spans, where an endpoint is configured and the `otel` extra is installed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ._errors import RequestError
from ._status import status_name

if TYPE_CHECKING:
    from ._calls import Call

_LOGGER = logging.getLogger(__name__)
_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Span(Protocol):
    """The part of a span that a call needs."""

    def end(self, call: Call, error: RequestError | None) -> None:
        """Write down what the call turned out to be."""


class Tracer(Protocol):
    """Makes one span for each call."""

    def span(self, call: Call) -> contextlib.AbstractContextManager[Span]:
        """Return the span around a call."""

    def close(self) -> None:
        """Send what is not sent yet."""


class _NoTracer:
    """Costs nothing."""

    def span(self, call: Call) -> contextlib.AbstractContextManager[Span]:
        return _NO_SPAN

    def close(self) -> None:
        pass


class _NoSpan(contextlib.AbstractContextManager["_NoSpan"]):
    def end(self, call: Call, error: RequestError | None) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_NO_SPAN = _NoSpan()


class OtelTracer:
    """Spans by a tracer provider; a caller's `traceparent` becomes the parent."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("featserve")
        self._propagator = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def span(self, call: Call) -> Iterator[Span]:
        """Return the span around a call."""
        from opentelemetry.trace import SpanKind

        parent = self._propagator.extract(call.headers)
        with self._tracer.start_as_current_span(
            call.method, context=parent, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            yield _OtelSpan(span)

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()


class _OtelSpan:
    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, call: Call, error: RequestError | None) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attributes(
            {
                "rpc.system": call.entrypoint.lower(),
                "rpc.status": status_name(error),
                "featserve.request_id": call.request_id,
                "featserve.model": call.model,
                "featserve.version": call.version or 0,
                "featserve.signature": call.signature,
                "featserve.runtime_s": call.runtime_s or 0.0,
            }
        )
        self._span.set_status(Status(StatusCode.OK if error is None else StatusCode.ERROR))


def create_tracer() -> Tracer:
    """Return a tracer that exports to the endpoint of the environment, or one that does nothing."""
    if not any(os.environ.get(name) for name in _ENDPOINT_VARIABLES):
        return _NoTracer()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as exc:
        _LOGGER.warning("no traces although an endpoint is set: %s is missing: pip install 'featserve[otel]'", exc.name)
        return _NoTracer()
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "featserve")})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTracer(provider)
