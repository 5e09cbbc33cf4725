import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export.graph.grouped_convolutions import plain_grouped_convolutions


def network(groups, filters, inputs=4):
    images = keras.Input((9, 9, inputs))
    options = {"padding": "same", "strides": 2, "activation": "relu", "bias_initializer": "normal"}
    return keras.Model(images, keras.layers.Conv2D(filters, 3, groups=groups, **options)(images))


def reference(model, value):
    """Each group by a convolution of its own."""
    layer = model.layers[1]
    kernel, bias = layer.get_weights()
    width, outputs = value.shape[-1] // layer.groups, layer.filters // layer.groups
    parts = [
        keras.ops.conv(
            value[..., g * width : (g + 1) * width], kernel[..., g * outputs : (g + 1) * outputs], 2, "same"
        ).numpy()
        for g in range(layer.groups)
    ]
    return np.maximum(np.concatenate(parts, -1) + bias, 0)


@pytest.mark.parametrize(("groups", "filters"), [(4, 4), (4, 8), (2, 4), (2, 6)])
def test_a_grouped_convolution_gives_the_same_by_plain_operations(groups, filters):
    value = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype(np.float32)
    model = network(groups, filters)
    expected = reference(model, value)
    with plain_grouped_convolutions():
        traced = tf.function(lambda images: model(images)).get_concrete_function(tf.TensorSpec((None, 9, 9, 4)))
    operations = {node.op for node in traced.graph.as_graph_def().node}
    assert "DepthwiseConv2dNative" in operations if groups == 4 else "Conv2D" in operations
    assert not any("Call" in operation for operation in operations), operations
    np.testing.assert_allclose(traced(tf.constant(value)).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_nested_convolution_is_meant_too():
    images = keras.Input((9, 9, 4))
    inner = network(4, 4)
    model = keras.Model(images, keras.layers.ReLU()(inner(images)))
    value = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype(np.float32)
    with plain_grouped_convolutions():
        received = model(value).numpy()
    np.testing.assert_allclose(received, reference(inner, value), rtol=1e-5, atol=1e-6)


def test_convolutions_are_keras_own_again_afterwards():
    model = network(2, 4)
    value = np.zeros((1, 9, 9, 4), np.float32)
    before = model(value).numpy()
    with plain_grouped_convolutions():
        pass
    np.testing.assert_array_equal(model(value).numpy(), before)
