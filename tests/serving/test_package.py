"""Generated code and constants taken from elsewhere: they are what they were made from."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import featserve_serving
import grpc
import pytest
from featserve_serving import errors
from featserve_serving.protos import config_pb2

PACKAGE = Path(featserve_serving.__file__).parent


def test_config_pb2_is_what_its_proto_gives(tmp_path):
    pytest.importorskip("grpc_tools")
    if not importlib.metadata.version("grpcio-tools").startswith("1.76."):
        pytest.skip("another generator writes other code")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PACKAGE.parent)]
    outputs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, *outputs, "featserve_serving/protos/config.proto"], check=True)
    for name in ("protos/config_pb2.py", "protos/config_pb2.pyi"):
        assert (tmp_path / "featserve_serving" / name).read_text() == (PACKAGE / name).read_text()


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (config_pb2.SSLConfig, {"server_key": 1, "server_cert": 2, "custom_ca": 3, "client_verify": 4}),
        (config_pb2.PrometheusConfig, {"enable": 1, "path": 2}),
        (config_pb2.MonitoringConfig, {"prometheus_config": 1}),
    ],
)
def test_fields_have_tensorflow_servings_numbers(message, fields):
    # Reference: tensorflow_serving/config/ssl_config.proto, monitoring_config.proto.
    assert {field.name: field.number for field in message.DESCRIPTOR.fields} == fields


def test_every_refusal_has_a_status_of_its_own():
    names = [kind.status for kind in errors.RequestError.__subclasses__()]
    assert len(set(names)) == len(names) and set(names) <= set(grpc.StatusCode.__members__) - {"OK", "UNKNOWN"}


def test_public_names():
    assert featserve_serving.__all__ == sorted(featserve_serving.__all__)
    assert all(hasattr(featserve_serving, name) for name in featserve_serving.__all__)


def test_import_does_no_work():
    code = "import sys, featserve_serving; print(sorted({'tensorflow', 'grpc', 'uvicorn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and not done.stderr


@pytest.mark.long
def test_a_missing_extra_is_named():
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "from featserve_serving import SetupError, create_server\n"
        "try:\n    create_server(model_root='x')\nexcept SetupError as exc:\n    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'featserve[serving]'" in done.stdout
