import numpy as np
import pytest
import tensorflow as tf
from featserve_export.graph.fold_batchnorm import fold_affine_chains


def graph_of(build, shape):
    with tf.Graph().as_default() as graph:
        tf.identity(build(tf.compat.v1.placeholder(tf.float32, shape, name="x")), name="y")
    return graph.as_graph_def()


def run(graph_def, value):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        return session.run("y:0", {"x:0": value})


def operations(graph_def):
    return sorted(node.op for node in graph_def.node if node.op not in ("Const", "Identity", "Placeholder"))


def convolve(x):
    return tf.nn.conv2d(x, tf.constant([[[[2.0, 3.0]]]]), 1, "VALID")


def test_the_numbers_of_a_folded_convolution():
    # (x * [2, 3] + [1, 1]) * [10, 100] - [5, 7], at x = 4: 90 - 5 and 1300 - 7.
    graph = graph_of(
        lambda x: tf.nn.bias_add(convolve(x), [1.0, 1.0]) * tf.constant([10.0, 100.0]) - tf.constant([5.0, 7.0]),
        (1, 1, 1, 1),
    )
    folded = fold_affine_chains(graph, {})
    assert operations(folded) == ["BiasAdd", "Conv2D"]
    np.testing.assert_allclose(run(folded, np.full((1, 1, 1, 1), 4.0)).ravel(), [85.0, 1293.0])


def depthwise(x):
    return tf.nn.depthwise_conv2d(x, np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4), [1, 1, 1, 1], "VALID")


@pytest.mark.parametrize(
    ("build", "shape", "left"),
    [
        (
            lambda x: depthwise(x) * np.arange(1, 9, dtype=np.float32) + tf.constant([1.0] * 8),
            (3, 2, 2, 2),
            ["BiasAdd", "DepthwiseConv2dNative"],
        ),
        (
            lambda x: tf.constant([2.0, 5.0]) * (x @ tf.constant([[1.0, 2.0], [3.0, 4.0]])),
            (3, 2),
            ["BiasAdd", "MatMul"],
        ),
        (lambda x: tf.constant(0.5) * convolve(x) + tf.constant([[[[1.0, 2.0]]]]), (3, 2, 2, 1), None),
    ],
)
def test_a_folded_chain_gives_the_same(build, shape, left):
    graph = graph_of(build, shape)
    folded = fold_affine_chains(graph, {})
    assert operations(folded) == (left or ["BiasAdd", "Conv2D"])
    value = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(run(folded, value), run(graph, value), rtol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: (lambda c: c * tf.constant([2.0, 3.0]) + tf.reduce_sum(c))(convolve(x)),
        lambda x: tf.constant([1.0, 2.0]) - convolve(x),
        lambda x: convolve(x) * tf.constant([[[2.0]], [[3.0]]]),
        lambda x: tf.matmul(x[:, 0, 0], tf.constant([[1.0], [2.0]]), transpose_b=True) * tf.constant([3.0, 4.0]),
    ],
    ids=["read twice", "subtracted from", "along the height", "transposed"],
)
def test_what_cannot_be_folded_gives_the_same(build):
    graph = graph_of(build, (1, 2, 2, 1))
    value = np.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(run(fold_affine_chains(graph, {}), value), run(graph, value), rtol=1e-6)
