"""Where the embedded server differs from TensorFlow Serving on purpose, as far as no other file tests it."""

import urllib.request

import grpc
import pytest
from featserve_serving import create_server
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.config import model_server_config_pb2


@pytest.fixture
def server(publish, base_path):
    publish(1)
    with create_server(model_base_path=base_path, model_name="adder", rest_address="127.0.0.1:0") as server:
        yield server


def test_a_message_that_cannot_be_parsed_is_answered_with_the_message_that_was_expected(server, caller):
    with pytest.raises(grpc.RpcError) as refusal:
        caller(server).call("PredictionService", "Predict", b"\xff\xff", predict_pb2.PredictResponse)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.details() == "The request is no PredictRequest message."


def test_a_reload_with_an_empty_name_changes_nothing(server, caller, base_path):
    config = text_format.Parse(
        f'model_config_list {{ config {{ base_path: "{base_path}" model_platform: "tensorflow" }} }}',
        model_server_config_pb2.ModelServerConfig(),
    )
    with pytest.raises(grpc.RpcError) as refusal:
        caller(server).reload(config)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.details() == "A model in the config list has no name"
    assert server.models() == {"adder": [1]}


def test_metrics_need_no_file(server):
    url = f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert b":tensorflow:serving:request_count" in answer.read()
