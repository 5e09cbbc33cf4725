"""Interceptors, and local runs of the engines that are installed."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import grpc
import numpy as np
import pyarrow.parquet
import pytest
from featserve_client import FeatureClient, ServerOverloaded
from featserve_client.integrations.ray import FeatureExtractor
from featserve_client.interceptors import CallRecord, MetricsInterceptor, OpenTelemetryInterceptor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from .fake_server import FakeServer, Refusal, features, jpeg


def busy(request: object, count: int) -> None:
    raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")


def test_metrics(server: FakeServer) -> None:
    records: list[CallRecord] = []
    with FeatureClient(server.target, model="toy", interceptors=[MetricsInterceptor(records.append)]) as client:
        client.extract(jpeg(0))
        server.before = busy
        with pytest.raises(ServerOverloaded):
            client.extract(jpeg(0))
    assert [record.method.rpartition("/")[2] for record in records] == ["GetModelMetadata", "Predict", "Predict"]
    assert [record.code.name for record in records] == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert all(0 < record.seconds < 20 for record in records)


def test_spans_travel_with_the_call(server: FakeServer) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with FeatureClient(server.target, model="toy", interceptors=[OpenTelemetryInterceptor(provider)]) as client:
        client.status()
        (span,) = exporter.get_finished_spans()
        assert span.name == "tensorflow.serving.ModelService/GetModelStatus"
        assert server.metadata[-1]["traceparent"].split("-")[1] == format(span.context.trace_id, "032x")
        server.before = busy
        with pytest.raises(ServerOverloaded):
            client.extract(jpeg(0))
    last = exporter.get_finished_spans()[-1]
    assert last.attributes and last.attributes["rpc.grpc.status_code"] == 8 and not last.status.is_ok


def test_a_batch_of_ray(server: FakeServer) -> None:
    batch = {"bytes": np.array([jpeg(0), b"nothing", jpeg(1)], object), "path": np.array(["a", "b", "c"])}
    got = FeatureExtractor(target=server.target, model="toy", layers=["late"])(batch)
    np.testing.assert_array_equal(got["late"][[0, 2]], [features(jpeg(seed))["late"] for seed in (0, 1)])
    assert got["error"][0] == "" and "not an image" in got["error"][1] and not got["late"][1].any()


RAY = """
import sys, ray
from featserve_client.integrations.ray import FeatureExtractor
target, photos, output = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
options = {"target": target, "model": "toy", "layers": ["late"]}
data = ray.data.read_binary_files(photos, include_paths=True)
data.map_batches(FeatureExtractor, fn_constructor_kwargs=options, concurrency=1).write_parquet(output)
"""

SPARK = """
import sys
from pyspark.sql import SparkSession
from featserve_client.integrations.spark import feature_extractor, schema
target, photos, output = sys.argv[1:]
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
extract = feature_extractor(target=target, model="toy", layers=["late"])
frame = spark.read.format("binaryFile").load(photos).select("path", "content")
frame.mapInPandas(extract, schema(["late"])).write.parquet(output)
"""


@pytest.mark.parametrize(("engine", "code"), [("ray", RAY), ("pyspark", SPARK)])
def test_a_local_run(server: FakeServer, tmp_path: pathlib.Path, engine: str, code: str) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for seed in range(12):
        (photos / f"{seed:02d}.jpg").write_bytes(jpeg(seed))
    environment = os.environ | {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "-W", "ignore", "-c", code, server.target, str(photos), str(output)]
    subprocess.run(command, check=True, timeout=240, env=environment, capture_output=True)
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert len(rows) == 12 and not any(row["error"] for row in rows)
    for row in rows:
        number = int(pathlib.Path(row["path"]).stem)
        np.testing.assert_array_equal(np.array(row["late"], np.float32), features(jpeg(number))["late"])
