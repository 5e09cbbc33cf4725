"""The server under test: the embedded one, or any by `--server HOST:PORT --rest HOST:PORT`."""

import runpy
from pathlib import Path

import pytest


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
