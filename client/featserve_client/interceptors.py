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

from ._extras import require


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """One finished call."""

    method: str
    code: grpc.StatusCode
    seconds: float


class MetricsInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Hands a record of each call to a function, such as one that feeds Prometheus.

    Args:
        record: Called once per call, from any thread.
    """

    def __init__(self, record: Callable[[CallRecord], None]) -> None:
        """Remember the function."""
        self._record = record

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: bytes) -> Any:
        """Time a call."""
        start = time.monotonic()
        call = continuation(details, request)
        # A blocking call is over by now; of any other, the end is told by its callback.
        call.add_done_callback(
            lambda done: self._record(
                CallRecord(method=_name(details), code=done.code(), seconds=time.monotonic() - start)
            )
        )
        return call

    def for_asyncio(self) -> grpc.aio.UnaryUnaryClientInterceptor:
        """Return the same for calls that are awaited; `AsyncFeatureClient` asks for it."""
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
        tracer_provider: Where spans go; the global provider if None.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """

    def __init__(self, tracer_provider: Any = None) -> None:
        """Take a tracer."""
        trace = require("opentelemetry.trace", "otel", "tracing")
        self._inject = require("opentelemetry.propagate", "otel", "tracing").inject
        self._status = require("opentelemetry.trace.status", "otel", "tracing")
        self._kind = trace.SpanKind.CLIENT
        self._tracer = trace.get_tracer("featserve_client", tracer_provider=tracer_provider)

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: bytes) -> Any:
        """Trace a call."""
        with self.span(details) as (carried, end):
            call = continuation(carried, request)
            end(call.code())
            return call

    def for_asyncio(self) -> grpc.aio.UnaryUnaryClientInterceptor:
        """Return the same for calls that are awaited; `AsyncFeatureClient` asks for it."""
        return _AsyncOpenTelemetry(self)

    @contextmanager
    def span(self, details: Any) -> Iterator[tuple[_Details, Callable[[grpc.StatusCode], None]]]:
        """Open a call's span; give the details that carry it, and what to tell the call's end."""
        name = _name(details)
        service, _, method = name.lstrip("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        with self._tracer.start_as_current_span(name.lstrip("/"), kind=self._kind, attributes=attributes) as span:

            def end(code: grpc.StatusCode) -> None:
                span.set_attribute("rpc.grpc.status_code", code.value[0])
                if code is not grpc.StatusCode.OK:
                    span.set_status(self._status.Status(self._status.StatusCode.ERROR, code.name))

            carrier: dict[str, str] = {}
            self._inject(carrier)
            yield _Details(details, (*(details.metadata or ()), *carrier.items())), end


class _AsyncOpenTelemetry(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, shared: OpenTelemetryInterceptor) -> None:
        self._shared = shared

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: bytes) -> Any:
        with self._shared.span(details) as (carried, end):
            metadata = grpc.aio.Metadata(*carried.metadata)
            call = await continuation(details._replace(metadata=metadata), request)
            end(await _code(call))
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
