"""The server under test: the embedded one, or any by `--server HOST:PORT --rest HOST:PORT`."""

import json
import runpy
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

PREDICTION, MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
METHODS = {
    "Predict": (PREDICTION, predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "GetModelMetadata": (
        PREDICTION,
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
    "Classify": (PREDICTION, classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
    "Regress": (PREDICTION, regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    "MultiInference": (PREDICTION, inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
    "GetModelStatus": (MODEL, get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse),
    "HandleReloadConfigRequest": (
        MODEL,
        model_management_pb2.ReloadConfigRequest,
        model_management_pb2.ReloadConfigResponse,
    ),
}


def pytest_addoption(parser):
    parser.addoption("--server", help="HOST:PORT of the gRPC API of a running server of the tiny model")
    parser.addoption("--rest", help="HOST:PORT of its REST API")
    parser.addoption("--model-path", default="/models/tiny", help="base path of the model, as that server sees it")


def _tiny():
    return runpy.run_path(str(Path(__file__).with_name("tiny_model.py")))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Two versions of the model that the transcripts were recorded with."""
    base_path = tmp_path_factory.mktemp("models") / "tiny"
    _tiny()["save"](base_path)
    return base_path


@pytest.fixture(scope="session")
def servers(request, tiny_model, tmp_path_factory):
    """`(gRPC address, REST address, base path of the model in the server)`."""
    given, rest = request.config.getoption("--server", None), request.config.getoption("--rest", None)
    if given:
        yield given, rest, request.config.getoption("--model-path")
        return
    from featserve_serving import create_server

    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(_tiny()["CONFIG"].format(base_path=tiny_model))
    with create_server(model_config_file=config, rest_address="127.0.0.1:0") as server:
        yield f"127.0.0.1:{server.port}", f"127.0.0.1:{server.rest_port}", str(tiny_model)


@pytest.fixture(scope="session")
def rpcs():
    """Returns the names of the methods that can be called."""
    return tuple(METHODS)


@pytest.fixture(scope="session")
def call():
    """Returns a function that sends a row's request: `(gRPC address, row, base path of the model)`."""
    return _call


def _call(address, row, base_path, timeout_s=60.0):
    service, request_type, response_type = METHODS[row["rpc"]]
    request = json_format.Parse(json.dumps(row["request"]).replace("/models/tiny", base_path), request_type())
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            f"/{service}/{row['rpc']}",
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString,
        )
        return method(request, timeout=timeout_s)
