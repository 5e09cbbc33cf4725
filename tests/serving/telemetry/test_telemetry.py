"""Metrics, logs, traces and request ids."""

import contextlib
import io
import json
import logging
import sys
import urllib.error
import urllib.request
from datetime import datetime, timedelta

import grpc
import numpy as np
import pytest
from featserve_serving import create_server
from featserve_serving.telemetry import logs, tracing
from featserve_serving.telemetry.call import Call, working_on


@pytest.fixture
def server(publish, base_path):
    publish(1)
    with create_server(model_base_path=base_path, model_name="adder", rest_address="127.0.0.1:0") as server:
        yield server


def page(server):
    url = f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics"
    return urllib.request.urlopen(url, timeout=60).read().decode()


def value(text, name, **labels):
    """Returns the sum of a metric's values that have these labels."""
    total, found = 0.0, False
    for line in text.splitlines():
        if line.startswith((name + "{", name + " ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            total += float(line.rpartition(" ")[2])
            found = True
    assert found, f"{name} with {labels} is not there"
    return total


def test_metrics_tell_what_happened(server, caller, eventually):
    client = caller(server)
    for _ in range(3):
        client.predict(np.ones(1000))
    with pytest.raises(grpc.RpcError):
        client.predict(1, signature="none")
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/adder:predict"
    urllib.request.urlopen(url, b'{"instances": [1]}', timeout=60).read()
    urllib.request.urlopen(url.removesuffix(":predict"), timeout=60).read()
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(url, b"{", timeout=60)
    text = page(server)
    tf = ":tensorflow:serving:"
    assert value(text, tf + "request_count", model_name="adder", status="OK") == 5
    assert value(text, tf + "request_count", model_name="adder", status="INVALID_ARGUMENT") == 1
    assert value(text, tf + "request_latency_count", model_name="adder", API="", entrypoint="REST") == 1
    assert value(text, tf + "request_count", model_name="adder", status="FAILED_PRECONDITION") == 1
    assert value(text, tf + "request_latency_count", model_name="adder", API="Predict", entrypoint="GRPC") == 3
    assert value(text, tf + "request_latency_count", model_name="adder", API="predict", entrypoint="REST") == 1
    assert value(text, tf + "runtime_latency_count", model_name="adder", runtime="TF1") == 4
    labels = {"model": "adder", "version": "1", "signature": "serving_default"}
    assert value(text, "featserve_requests_total", status="OK", entrypoint="GRPC", **labels) == 3
    assert value(text, "featserve_request_seconds_count", **labels) == 4
    assert value(text, "featserve_received_bytes_total", entrypoint="GRPC") > 3 * 4000
    assert value(text, "featserve_sent_bytes_total", entrypoint="GRPC") > 3 * 4000
    assert value(text, "featserve_model_version_state", model="adder", version="1") == 30
    assert value(text, "featserve_queue_depth") == 0
    eventually(lambda: value(page(server), "featserve_in_flight") == 0)  # a thread outlasts its answer a little


def test_a_model_may_be_called_anything(publish, tmp_path, caller):
    publish(1, model="just_created")
    with create_server(
        model_base_path=tmp_path / "models" / "just_created", model_name="just_created", rest_address="127.0.0.1:0"
    ) as server:
        caller(server).predict(1, model="just_created")
        text = page(server)
    assert value(text, "featserve_requests_total", model="just_created") == 1
    assert "_created{" not in text and "_created " not in text


def test_the_metrics_path_is_the_configuration_files(publish, base_path, tmp_path):
    publish(1)
    config = tmp_path / "monitoring.config"
    for text, path, status in (
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics", 200),
        ("prometheus_config { enable: false }", "/monitoring/prometheus/metrics", 404),
    ):
        config.write_text(text)
        with create_server(
            model_base_path=base_path, monitoring_config_file=config, rest_address="127.0.0.1:0"
        ) as server:
            try:
                got = urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{path}", timeout=60).status
            except urllib.error.HTTPError as exc:
                got = exc.code
            assert got == status


def test_executed_batches_are_counted(tmp_path, caller):
    import tensorflow as tf

    class Batching(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def add(self, x):
            @tf.nondifferentiable_batch_function(
                num_batch_threads=1, max_batch_size=4, batch_timeout_micros=0, allowed_batch_sizes=[1, 2, 4]
            )
            def batched(y):
                return y + 1.0

            return {"y": batched(x)}

    module = Batching()
    tf.saved_model.save(module, str(tmp_path / "b" / "1"), signatures={"serving_default": module.add})
    with create_server(model_base_path=tmp_path / "b", model_name="b", rest_address="127.0.0.1:0") as server:
        for size in (1, 1, 2, 3, 4):
            assert caller(server).predict(np.ones(size), model="b") == (2, 1)
        text = page(server)
    assert value(text, "featserve_executed_batch_size_count", model="b") == 5
    assert value(text, "featserve_executed_batch_size_sum", model="b") == 1 + 1 + 2 + 4 + 4


@pytest.mark.parametrize(("sent", "kept"), [("mine-42", True), ("x" * 129, False)])
def test_the_request_id_comes_back(server, caller, sent, kept):
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "adder"
    _, call = caller(server).call(
        "ModelService",
        "GetModelStatus",
        request,
        get_model_status_pb2.GetModelStatusResponse,
        metadata=(("x-request-id", sent),),
    )
    returned = dict(call.trailing_metadata())["x-request-id"]
    assert (returned == sent) is kept and returned
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.rest_port}/v1/models/adder", headers={"x-request-id": sent}
    )
    returned = urllib.request.urlopen(asked, timeout=60).headers["x-request-id"]
    assert (returned == sent) is kept and returned


def test_the_log_follows_stderr(capsys):
    logger = logging.getLogger("featserve_serving")
    before = logger.handlers[:], logger.level
    closed = io.StringIO()
    try:
        with contextlib.redirect_stderr(closed):
            logs.configure("json")
        closed.close()
        logger.info("still here")
    finally:
        logger.handlers[:] = before[0]
        logger.setLevel(before[1])
    assert json.loads(capsys.readouterr().err)["message"] == "still here"


def test_a_log_line_is_json_with_the_request():
    call = Call(method="Predict", entrypoint="GRPC", request_id="id1", model="m", version=3)
    try:
        raise ValueError("why\nnot")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "", 0, "it %s", ("failed",), sys.exc_info())
    with working_on(call):
        text = logs.JsonFormatter().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (line["message"], line["request_id"], line["model"], line["version"]) == ("it failed", "id1", "m", 3)
    assert (line["level"], line["logger"], line["entrypoint"]) == ("ERROR", "n", "GRPC")
    assert "ValueError: why" in line["exception"] and "signature" not in line
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)


def test_a_call_is_a_span_below_its_callers(publish, base_path, caller, monkeypatch):
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("featserve_serving.server.create_tracer", lambda: tracing.Tracer(provider))
    publish(1)
    parent = "0af7651916cd43dd8448eb211c80319c"
    with create_server(model_base_path=base_path, model_name="adder") as server:
        client = caller(server)
        client.predict(1, metadata=(("traceparent", f"00-{parent}-b7ad6b7169203331-01"),))
        with pytest.raises(grpc.RpcError):
            client.predict(1, model="other")
        spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["Predict", "Predict"]
    assert f"{spans[0].context.trace_id:032x}" == parent
    assert spans[0].attributes["featserve.model"] == "adder" and spans[0].attributes["featserve.version"] == 1
    assert spans[1].attributes["rpc.status"] == "NOT_FOUND" and not spans[1].status.is_ok


def test_no_endpoint_no_tracing(monkeypatch):
    for name in tracing._ENDPOINT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert tracing.create_tracer()._provider is None
