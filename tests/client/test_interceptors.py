"""Interceptors: metrics and spans of calls."""

import asyncio
import threading

import grpc
import prometheus_client
import pytest
from featserve_client import AsyncFeatureClient, FeatureClient, ServerOverloaded
from featserve_client.interceptors import CallRecord, MetricsInterceptor, OpenTelemetryInterceptor, prometheus_record
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from .fake_server import FakeServer, Refusal, jpeg


def busy(request: object, count: int) -> None:
    raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")


def ask(server: FakeServer, interceptor: object, *, awaited: bool) -> None:
    """Asks once for the status and once for features, then for features of a server that is busy."""
    settings = {"model": "toy", "interceptors": [interceptor]}
    if not awaited:
        with FeatureClient(server.target, **settings) as client:
            client.status()
            client.extract(jpeg(0))
            server.before = busy
            with pytest.raises(ServerOverloaded):
                client.extract(jpeg(0))
        return

    async def main() -> None:
        async with AsyncFeatureClient(server.target, **settings) as client:
            await client.status()
            await client.extract(jpeg(0))
            server.before = busy
            with pytest.raises(ServerOverloaded):
                await client.extract(jpeg(0))

    asyncio.run(main())


METHODS = ["ModelService/GetModelStatus", *(f"PredictionService/{m}" for m in ("GetModelMetadata", *["Predict"] * 2))]


@pytest.mark.parametrize("awaited", [False, True])
def test_metrics(server: FakeServer, awaited: bool) -> None:
    records: list[CallRecord] = []
    ask(server, MetricsInterceptor(records.append), awaited=awaited)
    assert [record.method for record in records] == [f"/tensorflow.serving.{method}" for method in METHODS]
    assert [record.code.name for record in records] == ["OK", "OK", "OK", "RESOURCE_EXHAUSTED"]
    assert all(record.seconds > 0 for record in records)


@pytest.mark.parametrize("awaited", [False, True])
def test_calls_are_counted_for_prometheus(server: FakeServer, awaited: bool) -> None:
    registry = prometheus_client.CollectorRegistry()
    ask(server, MetricsInterceptor(prometheus_record(registry)), awaited=awaited)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("featserve_client_calls_total", method="Predict", code="OK") == 1
    assert value("featserve_client_calls_total", method="Predict", code="RESOURCE_EXHAUSTED") == 1
    assert value("featserve_client_calls_total", method="GetModelStatus", code="OK") == 1
    assert value("featserve_client_call_seconds_count", method="Predict") == 2


@pytest.mark.parametrize("awaited", [False, True])
def test_spans_travel_with_the_call(server: FakeServer, awaited: bool) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    ask(server, OpenTelemetryInterceptor(provider), awaited=awaited)
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == [f"tensorflow.serving.{method}" for method in METHODS]
    for span, sent in zip(spans, server.metadata, strict=True):
        assert sent["traceparent"].split("-")[1] == format(span.context.trace_id, "032x")
        assert sent["x-request-id"]
    assert [dict(span.attributes or {})["rpc.grpc.status_code"] for span in spans] == [0, 0, 0, 8]
    assert [span.status.is_ok for span in spans][-1] is False


def test_a_cancelled_call_is_recorded_and_ends(server: FakeServer) -> None:
    records: list[CallRecord] = []
    begun, release = threading.Event(), threading.Event()

    def hold(request: object, count: int) -> None:
        begun.set()
        release.wait(60)

    server.before = hold

    async def main() -> None:
        interceptors = [MetricsInterceptor(records.append)]
        async with AsyncFeatureClient(server.target, model="toy", interceptors=interceptors) as client:
            task = asyncio.ensure_future(client.extract(jpeg(0)))
            await asyncio.to_thread(begun.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    try:
        asyncio.run(main())
    finally:
        release.set()
    assert records[-1].code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("awaited", [False, True])
def test_a_call_that_cannot_be_made_ends_its_span(server: FakeServer, awaited: bool) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = OpenTelemetryInterceptor(provider)
    details = grpc.aio.ClientCallDetails("/service/Method", 1.0, None, None, None)

    def fail(details: object, request: object) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        if awaited:
            asyncio.run(tracing.for_asyncio().intercept_unary_unary(fail, details, b""))
        else:
            tracing.intercept_unary_unary(fail, details, b"")
    (span,) = exporter.get_finished_spans()
    assert not span.status.is_ok
