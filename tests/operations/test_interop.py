"""Foreign clients against a server of an exported model (`make test-interop`): what each has, it gets right."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from featserve_client import FeatureClient
from PIL import Image

from ..local_server import LocalServer
from .foreign import CALLS, FOREIGN, Foreign, NotToBeHad, Plan
from .kit import export

pytestmark = pytest.mark.slow
README = Path(__file__).parents[1] / "README.md"
SIDE, MODEL = 64, "interop"
#: What the table says of a call that a client has not.
NONE = "–"


@pytest.fixture(scope="module")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    export(MODEL, root)
    return root


@pytest.fixture(scope="module")
def server(model_root: Path) -> Iterator[LocalServer]:
    server = LocalServer(f"--model_root={model_root}", rest=True)
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


def photos() -> list[bytes]:
    """Two JPEG files of the network's size."""
    pixels = np.random.default_rng(1).integers(0, 255, (2, 4, 4, 3), np.uint8)
    files = []
    for each in pixels:
        Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file := io.BytesIO(), "JPEG")
        files.append(file.getvalue())
    return files


def predict_request(pixels: np.ndarray) -> bytes:
    """The message of a Predict."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(pixels))
    return bytes(request.SerializeToString())


def descriptors() -> bytes:
    """TensorFlow Serving's services and all that they import, as protoc's `--descriptor_set_out`."""
    from google.protobuf import descriptor_pb2
    from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

    found = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(file: Any) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for each in file.dependencies:
            add(each)
        file.CopyToProto(found.file.add())

    add(prediction_service_pb2.DESCRIPTOR)
    add(model_service_pb2.DESCRIPTOR)
    return found.SerializeToString()


@pytest.fixture(scope="module")
def signatures(model_root: Path) -> list[str]:
    """The names of the export's signatures, as its file has them."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((model_root / MODEL / "1" / "saved_model.pb").read_bytes())
    (graph,) = saved.meta_graphs
    return sorted(name for name in graph.signature_def if not name.startswith("__"))


@pytest.fixture(scope="module")
def plan(server: LocalServer, signatures: list[str], tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """What the clients send."""
    folder = tmp_path_factory.mktemp("plan")
    files = photos()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    message = predict_request(pixels)
    coded = [{"b64": base64.b64encode(file).decode()} for file in files]
    rows = json.dumps({"instances": pixels.tolist()}).encode()
    bodies = {
        "rows": rows,
        "columns": json.dumps({"inputs": {"images": pixels.tolist()}}).encode(),
        "b64": json.dumps({"signature_name": "encoded", "instances": coded}).encode(),
        "gzip": gzip.compress(rows),
        # A message of gRPC: not compressed, its length.
        "grpc": struct.pack(">BI", 0, len(message)) + message,
    }
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    for number, file in enumerate(files):
        (folder / f"{number}.jpg").write_bytes(file)
    (folder / "descriptors").write_bytes(descriptors())
    fields = {
        "grpc": server.target,
        "rest": f"127.0.0.1:{server.rest_port}",
        "model": MODEL,
        "signatures": signatures,
        "jpegs": [str(folder / f"{number}.jpg") for number in range(len(files))],
        "uint8": pixels.tolist(),
        "float": pixels.astype(float).tolist(),
        "bodies": {name: str(folder / name) for name in bodies},
        "descriptors": str(folder / "descriptors"),
    }
    (folder / "plan.json").write_text(json.dumps(fields))
    return Plan(folder / "plan.json", fields)


@pytest.fixture(scope="module")
def features(plan: Plan) -> np.ndarray:
    """The right answer, as this project's own client gets it."""
    with FeatureClient(plan.fields["grpc"], model=MODEL) as client:
        (vectors,) = client.extract(plan.fields["jpegs"]).values()
    assert not np.allclose(*vectors, rtol=0.01), "expected features that tell two photos apart"
    return vectors


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """Rows of the table; printed at the end."""
    rows = [f"| client | {' | '.join(CALLS)} |", f"|---{'|:-:' * len(CALLS)}|"]
    yield rows
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    terminal.write_line("")
    for row in rows:
        terminal.write_line(row)


def verdict(call: str, answer: Any, features: np.ndarray, signatures: list[str]) -> str:
    """What the table says of an answer."""
    if call == "keep-alive":
        return "yes" if answer == "1 connection" else f"no: {answer}"
    if call == "classify":  # an export has no signature of that kind, and says so
        return "refused" if answer == "INVALID_ARGUMENT" else f"no: {answer}"
    if call == "status":
        states = [each["state"] for each in answer["model_version_status"]] if isinstance(answer, dict) else answer
        return "yes" if states == ["AVAILABLE"] else f"no: {answer}"
    if call == "metadata":
        names = sorted(answer["metadata"]["signature_def"]["signature_def"]) if "metadata" in answer else answer
        # ovmsclient reads the default signature alone.
        default = {"inputs": ["images"], "outputs": ["conv_pw_1_relu"]}
        return "yes" if names in (signatures, default) else f"no: {answer}"
    if isinstance(answer, dict):
        answer = answer.get("predictions") or answer.get("outputs")
    if answer == "1 connection":  # of a load generator, which reads no more than the status
        return "yes"
    near = np.shape(answer) == features.shape and np.allclose(answer, features, rtol=1e-4, atol=1e-5 * features.max())
    return "yes" if near else f"no: {answer}"


@pytest.mark.parametrize("client", FOREIGN, ids=lambda client: client.name)
def test_a_foreign_client_gets_the_right_answers(
    client: Foreign, plan: Plan, features: np.ndarray, signatures: list[str], table: list[str]
) -> None:
    try:
        command = client.install()
    except NotToBeHad as error:
        pytest.skip(str(error))
    answers = client.ask(command, plan)
    assert set(answers) == set(client.calls)
    cells = {
        call: verdict(call, answers[call], features, signatures) if call in client.calls else NONE for call in CALLS
    }
    row = f"| {client.name} | {' | '.join(cells.values())} |"
    table.append(row)
    assert not {call: cell for call, cell in cells.items() if cell not in ("yes", "refused", NONE)}
    assert row in README.read_text(encoding="utf-8").splitlines(), "expected this row in the table of tests/README.md"


def test_the_readme_has_a_row_for_each_client() -> None:
    rows = re.findall(r"^\| ([^|]+) \|(?: (?:yes|refused|–) \|)+$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [client.name for client in FOREIGN]
