"""A model that is small, and a server of it."""

import shutil
import threading
import warnings
from pathlib import Path

import grpc
import numpy as np
import pytest

from ..local_server import LocalServer


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    """Returns a function that gives the path of a SavedModel which adds `number` to its input."""
    saved: dict[int, Path] = {}

    def save(number: int) -> Path:
        if number not in saved:
            import tensorflow as tf

            class Add(tf.Module):
                @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
                def add(self, x):
                    return {"y": x + float(number)}

                @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
                def work(self, x):
                    y = x
                    for _ in range(8):
                        y = tf.linalg.matmul(y, y) * 1e-3
                    return {"y": tf.reduce_sum(y)}

                @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
                def heavy(self, x):
                    y = tf.fill([500, 500], x[0])
                    for _ in range(16):
                        y = tf.linalg.matmul(y, y) * 1e-3
                    return {"y": tf.reduce_sum(y)}

            module = Add()
            path = tmp_path_factory.mktemp("saved") / str(number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tf.saved_model.save(
                    module,
                    str(path),
                    signatures={"serving_default": module.add, "work": module.work, "heavy": module.heavy},
                )
            saved[number] = path
        return saved[number]

    return save


@pytest.fixture
def publish(saved_model, tmp_path):
    """Returns a function that puts a version into a model's directory, whole at once."""

    def put(version: int, model: str = "adder") -> Path:
        base_path = tmp_path / "models" / model
        base_path.mkdir(parents=True, exist_ok=True)
        copy = base_path / f".{version}.tmp"
        shutil.copytree(saved_model(version), copy)
        return copy.rename(base_path / str(version))

    return put


@pytest.fixture
def base_path(tmp_path) -> Path:
    return tmp_path / "models" / "adder"


@pytest.fixture
def gate(monkeypatch):
    """Holds every computation of the servers in this process until the event is set."""
    from featserve_serving.models.servable import Servable

    opened, run = threading.Event(), Servable.run

    def held(*args, **kwargs):
        assert opened.wait(120)
        return run(*args, **kwargs)

    monkeypatch.setattr(Servable, "run", held)
    yield opened
    opened.set()


class Caller:
    """A client that knows no more than the wire."""

    def __init__(self, target, *, credentials=None, options=()):
        self.channel = (
            grpc.secure_channel(target, credentials, options) if credentials else grpc.insecure_channel(target, options)
        )

    def call(self, service, method, request, response_type, **kwargs):
        run = self.channel.unary_unary(
            f"/tensorflow.serving.{service}/{method}",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=response_type.FromString,
        )
        return run.with_call(request, **{"timeout": 60, **kwargs})

    def predict(self, x=1.0, *, model="adder", version=None, label=None, signature="", **kwargs):
        """Returns the first number of the answer, and the version that gave it."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        if label is not None:
            request.model_spec.version_label = label
        array = np.asarray(x, np.float32)
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(array if array.ndim else array[None]))
        response, _ = self.call("PredictionService", "Predict", request, predict_pb2.PredictResponse, **kwargs)
        return response.outputs["y"].float_val[0], response.model_spec.version.value

    def states(self, model="adder"):
        """Returns `(state, error message)` by version."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        response, _ = self.call("ModelService", "GetModelStatus", request, get_model_status_pb2.GetModelStatusResponse)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {line.version: (name(line.state), line.status.error_message) for line in response.model_version_status}

    def reload(self, config):
        from tensorflow_serving.apis import model_management_pb2

        request = model_management_pb2.ReloadConfigRequest(config=config)
        self.call("ModelService", "HandleReloadConfigRequest", request, model_management_pb2.ReloadConfigResponse)

    def health(self, service=""):
        from grpc_health.v1 import health_pb2

        request = health_pb2.HealthCheckRequest(service=service)
        run = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return health_pb2.HealthCheckResponse.ServingStatus.Name(run(request, timeout=60).status)

    def close(self):
        self.channel.close()


@pytest.fixture
def caller():
    """Returns a function that connects to a server."""
    callers = []

    def connect(target, **kwargs):
        if hasattr(target, "port"):
            target = f"127.0.0.1:{target.port}"
        callers.append(Caller(target, **kwargs))
        return callers[-1]

    yield connect
    for each in callers:
        each.close()


@pytest.fixture
def server_process():
    """Returns a function that runs `featserve-serve` and waits until it is ready: `(process, gRPC port, REST port)`."""
    servers = []

    def start(*flags):
        servers.append(LocalServer(*flags, rest=True))
        server = servers[-1].wait_until_ready()
        return server.process, server.port, server.rest_port

    yield start
    logs = [server.kill() for server in servers]
    assert not any("Traceback" in log for log in logs)
