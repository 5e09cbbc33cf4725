"""Weights stand beside graphs: none is in a GraphDef, and no two graphs have copies of one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export import ExportOptions, export_backbone
from featserve_export.graph.freeze import freeze
from featserve_export.graph.weights import (
    LARGE_BYTES,
    WeightVariables,
    ancestors,
    fold_weights,
    take_constants,
    with_constants,
)
from tensorflow.core.protobuf import saved_model_pb2

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def run(graph_def, feeds, fetch="y:0"):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        return session.run(fetch, feeds)


def constants(saved_model):
    """Bytes of each constant, those of functions included."""
    for meta_graph in saved_model.meta_graphs:
        nodes = [*meta_graph.graph_def.node]
        for function in meta_graph.graph_def.library.function:
            nodes += function.node_def
        for node in nodes:
            if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
                yield node.attr["value"].tensor.ByteSize()


@pytest.fixture(scope="module")
def small():
    """Two layers, behind 36 KiB of weights and behind 288 KiB more."""
    images = keras.Input((8, 8, 3))
    keras.utils.set_random_seed(0)
    first = keras.layers.Conv2D(32, 3, activation="relu", padding="same")(images)
    first = keras.layers.BatchNormalization(name="normalised")(keras.layers.Conv2D(32, 3, use_bias=False)(first))
    second = keras.layers.Dense(64, name="second")(keras.layers.Flatten()(first))
    return keras.Model(images, [first, second])


@pytest.fixture(scope="module")
def one_and_two_layers(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    small.save(folder / "small.keras")
    return [
        export_backbone(
            ExportOptions(
                str(folder / "small.keras"),
                preprocess="none",
                layers=layers,
                model_name=f"layers_{len(layers)}",
                model_root=folder / "models",
            )
        ).path
        for layers in (["second"], ["normalised", "second"])
    ]


def size(path):
    return sum(file.stat().st_size for file in (path / "variables").iterdir())


def test_a_further_layer_costs_no_weights(one_and_two_layers):
    one, two = map(size, one_and_two_layers)
    assert one > 9 * LARGE_BYTES
    assert two < one + LARGE_BYTES


def test_no_graph_holds_weights(one_and_two_layers):
    for path in one_and_two_layers:
        saved_model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        assert max(constants(saved_model)) <= LARGE_BYTES + 64


def test_all_graphs_read_the_same_variables(one_and_two_layers):
    saved_model = saved_model_pb2.SavedModel.FromString((one_and_two_layers[1] / "saved_model.pb").read_bytes())
    nodes = {node.name: node for node in saved_model.meta_graphs[0].graph_def.node}
    batches = [node for node in nodes.values() if node.op == "BatchFunction"]
    assert len({node.attr["f"].func.name for node in batches}) == 2
    needed = ancestors(saved_model.meta_graphs[0].graph_def, [node.name for node in batches])
    handles = [name for name in needed if nodes[name].op == "VarHandleOp"]
    assert len(handles) == sum(node.op == "VarHandleOp" for node in nodes.values()) == 2


def test_a_frozen_graph_is_whole_with_its_weights(small):
    frozen = freeze(lambda images: small(images / 2), ["normalised", "second"], (8, 8))
    assert len(frozen.weights) == 2
    assert frozen.graph_def.ByteSize() < LARGE_BYTES
    assert len(frozen.keep(["normalised"]).weights) == 1
    value = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype("f4")
    for output, expected in zip(frozen.outputs.values(), small(value / 2), strict=True):
        np.testing.assert_allclose(
            run(frozen.whole(), {"images:0": value}, f"{output}:0"), expected, rtol=1e-4, atol=1e-5
        )


def test_freezing_leaves_the_model_as_it_is(small):
    before = [weight.copy() for weight in small.get_weights()]
    freeze(small, ["normalised", "second"], (8, 8))
    for weight, expected in zip(small.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


WIDE = np.arange(128.0 * 64, dtype=np.float32).reshape(128, 64) / 1000


def graph_of(build):
    with tf.Graph().as_default() as graph:
        tf.identity(build(tf.compat.v1.placeholder(tf.float32, (2, 128), name="x"), tf.constant(WIDE)), name="y")
    graph_def, weights = graph.as_graph_def(), {}
    take_constants(graph_def, weights)
    return graph_def, weights


@pytest.mark.parametrize(
    ("build", "dtype", "left"),
    [
        (lambda x, w: x @ tf.identity(w), tf.float32, 0),
        (lambda x, w: tf.cast(tf.cast(x, tf.bfloat16) @ tf.cast(w, tf.bfloat16), tf.float32), tf.bfloat16, 1),
        (lambda x, w: x @ tf.split(w * 2.0, 2, 1)[1], tf.float32, 1),
    ],
    ids=["an identity", "a cast", "the second of two halves"],
)
def test_what_depends_on_weights_alone_is_computed_once(build, dtype, left):
    graph_def, weights = graph_of(build)
    expected = run(with_constants(graph_def, weights), {"x:0": np.ones((2, 128))})
    fold_weights(graph_def, weights)
    assert [name.endswith("/folded") for name in weights] == [bool(left)]
    assert [value.dtype for value in weights.values()] == [dtype.as_numpy_dtype]
    assert "Split" not in {node.op for node in graph_def.node}
    received = run(graph_def, {"x:0": np.ones((2, 128)), **{f"{name}:0": value for name, value in weights.items()}})
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize(
    "build",
    [
        lambda x, w: tf.matmul(x, w + tf.reduce_sum(x)),
        lambda x, w: tf.matmul(x, w + tf.random.uniform((64,))),
    ],
    ids=["the images", "chance"],
)
def test_what_depends_on_more_is_left(build):
    graph_def, weights = graph_of(build)
    before = graph_def.SerializeToString(deterministic=True)
    fold_weights(graph_def, weights)
    assert graph_def.SerializeToString(deterministic=True) == before
    assert list(weights) == ["Const"]


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.qint8])
def test_variables_of_every_precision_come_back(dtype, tmp_path):
    value = np.arange(-8, 8).reshape(2, 8).astype(dtype.as_numpy_dtype)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = WeightVariables()
        reads = [variables.read(value), variables.read(value.copy())]
        assert reads[0] is reads[1]
        assert variables.read(value[:1]) is not reads[0]
        variables.load(session)
        saver = tf.compat.v1.train.Saver()
        path = saver.save(session, str(tmp_path / "model"), write_meta_graph=False)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = WeightVariables()
        read, _ = variables.read(np.zeros_like(value)), variables.read(np.zeros_like(value[:1]))
        tf.compat.v1.train.Saver().restore(session, path)
        received = session.run(
            tf.bitcast(read, tf.uint16 if dtype == tf.bfloat16 else tf.int32 if dtype == tf.float32 else tf.int8)
        )
    assert received.tobytes() == value.tobytes()
