import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from featserve_client import FeatureClient, InvalidRequest
from featserve_export import Batching, InvalidOptionError, rebatch
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from ..golden_file import load_golden

BASES = ("serving_default", "encoded", "float_images")
LAYERS = ("conv_pw_1_relu", "conv_pw_13_relu")


@pytest.fixture(scope="module")
def golden(exported):
    return load_golden(exported.path)


@pytest.fixture
def client(served):
    with FeatureClient(served, model="mobilenet") as client:
        yield client


def read_signatures(directory):
    """The signatures that take an input, by name."""
    (meta_graph,) = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs
    return {name: definition for name, definition in meta_graph.signature_def.items() if definition.inputs}


def inputs(golden, base, rows):
    return {"image_bytes" if base == "encoded" else "images": golden.input(base)[rows]}


def close(received, expected):
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_each_layer_has_signatures_of_its_own(exported):
    signatures = read_signatures(exported.path)
    assert set(signatures) == {*BASES, *(f"{base}/{layer}" for base in BASES for layer in LAYERS)}
    for name, definition in signatures.items():
        assert set(definition.outputs) == {name.split("/")[1]} if "/" in name else set(LAYERS)
        (tensor,) = definition.inputs.values()
        described = exported.manifest["signatures"][name]
        assert tf.as_dtype(tensor.dtype).name == described["dtype"]
        assert tf.TensorShape(tensor.tensor_shape).as_list() == described["shape"]


def convolutions(graph_def, tensor):
    """How many convolutions a tensor is computed from, those in the functions that batch included."""
    nodes = {node.name: node for node in graph_def.node}
    library = {function.signature.name: function for function in graph_def.library.function}
    pending, seen, count = [tensor.split(":")[0]], set(), 0
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        node = nodes[name]
        pending += [source.removeprefix("^").split(":")[0] for source in node.input]
        body = library[node.attr["f"].func.name].node_def if node.op == "BatchFunction" else [node]
        count += sum("Conv2d" in inner.op or "Conv2D" in inner.op for inner in body)
    return count


def test_a_shallow_layer_alone_computes_no_deeper_convolution(exported):
    saved = saved_model_pb2.SavedModel.FromString((exported.path / "saved_model.pb").read_bytes())
    graph_def = saved.meta_graphs[0].graph_def
    for base in BASES:
        # The stem, then a depthwise and a pointwise convolution in each of the 13 blocks.
        for suffix, layer, expected in (
            ("", LAYERS[0], 27),
            (f"/{LAYERS[0]}", LAYERS[0], 3),
            (f"/{LAYERS[1]}", LAYERS[1], 27),
        ):
            tensor = saved.meta_graphs[0].signature_def[base + suffix].outputs[layer].name
            assert convolutions(graph_def, tensor) == expected, base + suffix


def test_the_server_tells_the_manifest(exported, client):
    text = client.predict({}, signature="manifest")["manifest"].item()
    written = json.loads((exported.path / "assets.extra/manifest.json").read_text())
    assert json.loads(text) == written
    assert {name: layer["shape"] for name, layer in written["layers"].items()} == {
        "conv_pw_1_relu": [32, 32, 16],
        "conv_pw_13_relu": [2, 2, 256],
    }


def test_the_server_carries_golden_answers(exported, golden, client):
    carried = client.predict({}, signature="golden")
    rows = [golden.encoded.index(picture) for picture in carried["image_bytes"]]
    assert sorted(golden.encoded[row][:4] for row in rows) == [b"\x89PNG", b"\xff\xd8\xff\xe0"]
    for layer in LAYERS:
        values, positions = carried[f"expected/{layer}"], carried[f"positions/{layer}"]
        flat = golden.expected["encoded"][layer][rows].reshape(2, -1)
        assert positions.size == 1024 and (np.diff(positions) > 0).all()
        np.testing.assert_array_equal(values, flat[:, positions])
    assert sum(map(len, carried["image_bytes"])) < 100_000


def test_callers_of_all_signatures_at_once_get_their_own_answers(golden, client):
    calls = [
        (base, layer, slice(row, row + 1 + index % 2))
        for index in range(4)
        for base in BASES
        for layer in (None, *LAYERS)
        for row in range(3)
    ]

    def ask(call):
        base, layer, rows = call
        answer = client.predict(inputs(golden, base, rows), signature=f"{base}/{layer}" if layer else base)
        assert set(answer) == ({layer} if layer else set(LAYERS))
        for name, value in answer.items():
            close(value, golden.expected[base][name][rows])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, calls))


def test_garbage_fails_alone(golden, client):
    stop, refused = threading.Event(), []

    def poison():
        while not stop.is_set():
            with pytest.raises(InvalidRequest):
                client.predict({"image_bytes": np.array([b"garbage"], object)}, signature="encoded")
            refused.append(1)

    def ask(index):
        rows = slice(index % 4, index % 4 + 1)
        answer = client.predict(inputs(golden, "encoded", rows), signature="encoded/conv_pw_13_relu")
        close(answer["conv_pw_13_relu"], golden.expected["encoded"]["conv_pw_13_relu"][rows])

    thread = threading.Thread(target=poison)
    thread.start()
    with ThreadPoolExecutor(16) as pool:
        while len(refused) <= 5 and thread.is_alive():
            list(pool.map(ask, range(320)))
    stop.set()
    thread.join()
    assert len(refused) > 5


@pytest.mark.parametrize("count", [100, 2000])
def test_a_request_larger_than_a_batch_is_split(golden, client, count):
    rows = 2 + np.arange(count) % 2
    answer = client.predict(inputs(golden, "encoded", rows), signature="encoded/conv_pw_13_relu", timeout_s=300)
    close(answer["conv_pw_13_relu"], golden.expected["encoded"]["conv_pw_13_relu"][rows])


@pytest.mark.parametrize("base", ["serving_default", "encoded"])
def test_a_request_that_no_queue_holds_is_told_the_limit(exported, golden, client, base):
    queue = exported.manifest["batching"]
    limit = queue["max_enqueued_batches"] * queue["max_batch_size"]
    if base == "encoded":
        request = inputs(golden, base, np.full(limit + 1, 2))
    else:
        request = {"images": np.zeros((limit + 1, 4, 4, 3), np.uint8)}
    with pytest.raises(InvalidRequest, match=f"at most {limit} images in a request, received {limit + 1}: send"):
        client.predict(request, signature=base, timeout_s=300)


def test_warm_up_has_each_signature_and_batch_size(exported):
    path = exported.path / "assets.extra/tf_serving_warmup_requests"
    seen = set()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        (tensor,) = request.inputs.values()
        seen.add((request.model_spec.signature_name, tensor.tensor_shape.dim[0].size))
    signatures = {name for name in exported.manifest["signatures"] if name != "manifest"}
    assert seen == {
        (name, size) for name in signatures for size in exported.manifest["batching"]["allowed_batch_sizes"]
    }


def attributes(directory):
    saved = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    return [node.attr for node in graph.node if node.op == "BatchFunction"]


def test_rebatching_changes_the_queues_alone(exported, golden, tmp_path):
    source = tmp_path / "mobilenet" / "1"
    shutil.copytree(exported.path, source)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    batching = Batching(
        num_batch_threads=3,
        max_batch_size=5,
        batch_timeout_micros=7,
        max_enqueued_batches=11,
        allowed_batch_sizes=(2, 5),
    )
    start = time.monotonic()
    target = rebatch(source, batching)
    assert time.monotonic() - start < 60
    assert target == source.parent / "2"
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    for queue in attributes(target):
        assert (queue["num_batch_threads"].i, queue["batch_timeout_micros"].i) == (3, 7)
        assert queue["max_enqueued_batches"].i == 11
        assert list(queue["allowed_batch_sizes"].list.i) == [2, 5]
    names = [[queue["shared_name"].s for queue in attributes(path)] for path in (source, target)]
    assert not set(names[0]) & set(names[1])
    functions = {(queue["shared_name"].s, queue["f"].func.name) for queue in attributes(target)}
    assert len(functions) == len({name for name, _ in functions}) > 1
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.loader.load(session, ["serve"], str(target))
        definition = read_signatures(target)["float_images"]
        feed = {definition.inputs["images"].name: golden.float_images}
        for layer, tensor in definition.outputs.items():
            close(session.run(tensor.name, feed), golden.expected["float_images"][layer])
        name, most = definition.outputs[LAYERS[1]].name, np.zeros((55, 64, 64, 3), np.float32)
        assert len(session.run(name, {definition.inputs["images"].name: most})) == 55
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most 55 images in a request, received 56"):
            session.run(name, {definition.inputs["images"].name: np.concatenate([most, most[:1]])})


def test_what_cannot_be_rebatched_is_refused(exported, tmp_path):
    batching = Batching(
        num_batch_threads=1,
        max_batch_size=1,
        batch_timeout_micros=0,
        max_enqueued_batches=1,
        allowed_batch_sizes=(1,),
    )
    with pytest.raises(InvalidOptionError, match="expected the directory of an exported version"):
        rebatch(tmp_path, batching)
    with pytest.raises(InvalidOptionError, match="expected a version that does not exist, received 1"):
        rebatch(exported.path, batching, version=1)
    with pytest.raises(InvalidOptionError, match="expected a version from 1, received -3"):
        rebatch(exported.path, batching, version=-3)
