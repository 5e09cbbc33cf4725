"""Interceptors, and local runs of the engines that are installed."""

import ast
import asyncio
import doctest
import importlib.util
import os
import pathlib
import subprocess
import sys
import threading

import grpc
import numpy as np
import pyarrow.parquet
import pytest
from featserve_client import AsyncFeatureClient, FeatureClient, ServerOverloaded, integrations
from featserve_client.integrations.ray import FeatureExtractor
from featserve_client.interceptors import CallRecord, MetricsInterceptor, OpenTelemetryInterceptor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from .fake_server import FakeServer, Refusal, features, jpeg


def busy(request: object, count: int) -> None:
    raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")


def ask(server: FakeServer, interceptor: object, *, awaited: bool) -> None:
    """Ask once for the status and once for features, then for features of a server that is busy."""
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


def test_a_batch_of_ray(server: FakeServer) -> None:
    batch = {"bytes": np.array([jpeg(0), b"nothing", jpeg(1)], object), "path": np.array(["a", "b", "c"])}
    got = FeatureExtractor(target=server.target, model="toy", layers=["late"])(batch)
    np.testing.assert_array_equal(got["late"][[0, 2]], [features(jpeg(seed))["late"] for seed in (0, 1)])
    assert got["error"][0] == "" and "not an image" in got["error"][1] and not got["late"][1].any()


def example(name: str) -> str:
    """The example in an integration's docstring, for the script's own server, model and folders."""
    module = pathlib.Path(integrations.__file__).with_name(f"{name}.py")
    examples = doctest.DocTestParser().get_examples(ast.get_docstring(ast.parse(module.read_text())) or "")
    code = "".join(each.source for each in examples)
    for written, wanted in {
        '"server:8500"': "target",
        '"vgg16"': '"toy"',
        '"block5_pool"': '"late"',
        '"photos/"': "photos",
        '"features/"': "output",
        "concurrency=4": "concurrency=1",
    }.items():
        code = code.replace(written, wanted)
    return code


RAY = """
import sys, ray
from featserve_client.integrations.ray import FeatureExtractor
target, photos, output = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
""" + example("ray")

SPARK = """
import sys
from pyspark.sql import SparkSession
from featserve_client.integrations.spark import feature_extractor, schema
target, photos, output = sys.argv[1:]
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
""" + example("spark")

BEAM = """
import sys, apache_beam as beam, pyarrow
from apache_beam.io import fileio
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from featserve_client.integrations.beam import FeatureHandler
target, photos, output = sys.argv[1:]
handler = KeyedModelHandler(FeatureHandler(target=target, model="toy", layers=["late"]))
def row(item):
    path, result = item
    found = result.inference
    late = found.features["late"].tolist() if found.error is None else None
    return {"path": path, "error": str(found.error or ""), "late": late}
kinds = {"path": pyarrow.string(), "error": pyarrow.string(), "late": pyarrow.list_(pyarrow.float32())}
with beam.Pipeline("DirectRunner") as pipeline:
    files = pipeline | fileio.MatchFiles(photos + "/*") | fileio.ReadMatches()
    named = files | beam.Map(lambda file: (file.metadata.path, file.read()))
    found = named | RunInference(handler) | beam.Map(row)
    found | beam.io.WriteToParquet(output + "/part", pyarrow.schema(kinds))
"""


@pytest.mark.parametrize(("engine", "code"), [("ray", RAY), ("pyspark", SPARK), ("apache_beam", BEAM)])
def test_a_local_run(server: FakeServer, tmp_path: pathlib.Path, engine: str, code: str) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for seed in range(12):
        (photos / f"{seed:02d}.jpg").write_bytes(jpeg(seed))
    (photos / "99.jpg").write_bytes(b"nothing")
    environment = os.environ | {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "-W", "ignore", "-c", code, server.target, str(photos), str(output)]
    subprocess.run(command, check=True, timeout=240, env=environment, capture_output=True)
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert len(rows) == 13
    for row in rows:
        number = int(pathlib.Path(row["path"]).stem)
        if number == 99:
            assert "not an image" in row["error"] and not any(row["late"] or [])
            continue
        assert not row["error"]
        np.testing.assert_array_equal(np.array(row["late"], np.float32), features(jpeg(number))["late"])
