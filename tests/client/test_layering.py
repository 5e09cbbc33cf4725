"""The client needs no TensorFlow, and gets on with one that is there."""

import pathlib
import subprocess
import sys

import featserve_client
import pytest

from .fake_server import FakeServer, jpeg

PARTS = {path.stem for path in pathlib.Path(featserve_client.__file__).parent.iterdir()}


def fresh(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, timeout=300
    ).stdout


def test_the_client_imports_nothing_heavy() -> None:
    loaded = set(fresh("import featserve_client, sys; print(*sys.modules)").split())
    heavy = {
        "tensorflow",
        "tensorflow_serving",
        "keras",
        "PIL",
        "matplotlib",
        "pyarrow",
        "h5py",
        "zarr",
        "rich",
        "pandas",
    }
    assert not loaded & (heavy | {"featserve_export", "featserve_serving", "opentelemetry", "ray"})


def test_a_command_imports_no_other() -> None:
    code = "import sys; from featserve_client.cli import dispatch; dispatch._parser('extract'); print(*sys.modules)"
    loaded = set(fresh(code).split())
    commands = {name.rpartition(".")[2] for name in loaded if name.startswith("featserve_client.cli.commands.")}
    assert commands == {"extract", "bulk"}
    assert not loaded & {"importlib.metadata", "featserve_client.compare", "featserve_client.watch"}


def test_an_extraction_needs_no_tensorflow(server: FakeServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    code = """
import sys
from featserve_client import FeatureClient
with FeatureClient(sys.argv[1], model="toy") as client:
    print(client.extract(sys.argv[2])["late"].shape, "tensorflow" in sys.modules)
"""
    assert fresh(code, server.target, str(tmp_path / "a.jpg")) == "(1, 4) False\n"


@pytest.mark.long
def test_tensorflow_in_the_same_process(server: FakeServer) -> None:
    code = """
import sys, warnings
warnings.simplefilter("ignore")
if sys.argv[2] == "before": import featserve_client
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc, get_model_status_pb2
import numpy, featserve_client
image = numpy.zeros((4, 4, 3), numpy.uint8)
print(featserve_client.FeatureClient(sys.argv[1], model="toy").extract(image)["late"].shape)
"""
    assert fresh(code, server.target, "before") == fresh(code, server.target, "after") == "(1, 4)\n"


def test_all_is_what_there_is() -> None:
    assert featserve_client.__all__ == sorted(featserve_client.__all__)
    public = {name for name, value in vars(featserve_client).items() if not name.startswith("_")}
    modules = {name for name in public if type(getattr(featserve_client, name)).__name__ == "module"}
    assert public - modules <= set(featserve_client.__all__)
    assert set(featserve_client.__all__) <= set(dir(featserve_client))
    assert not {name for name in modules if not name.startswith("_")} - PARTS
    for name in featserve_client.__all__:
        assert getattr(featserve_client, name).__doc__, name


def test_each_module_can_be_the_first_that_is_imported() -> None:
    code = """
import importlib, pkgutil, sys
import featserve_client
for name in sorted(each.name for each in pkgutil.walk_packages(featserve_client.__path__, "featserve_client.")):
    if name.startswith("featserve_client.integrations.") or name.endswith("__main__"):
        continue  # need their engine, or run
    for loaded in [each for each in sys.modules if each.startswith("featserve_client")]:
        del sys.modules[loaded]
    importlib.import_module(name)
    print(name)
"""
    assert "featserve_client.base_client" in fresh(code).splitlines()
