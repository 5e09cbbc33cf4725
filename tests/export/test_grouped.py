import keras
import numpy as np
import pytest
from featserve_export._grouped import replace_grouped_convolutions


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
def test_a_replaced_convolution_gives_the_same(groups, filters):
    value = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype(np.float32)
    model = network(groups, filters)
    replaced = replace_grouped_convolutions(model)
    assert any(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in replaced.layers) == (groups == 4)
    np.testing.assert_allclose(replaced(value).numpy(), reference(model, value), rtol=1e-5, atol=1e-6)


def test_a_nested_convolution_is_replaced():
    images = keras.Input((9, 9, 4))
    inner = network(4, 4)
    model = keras.Model(images, keras.layers.ReLU()(inner(images)))
    replaced = replace_grouped_convolutions(model)
    assert not any(getattr(layer, "groups", 1) > 1 for layer in replaced._flatten_layers())
    value = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype(np.float32)
    np.testing.assert_allclose(replaced(value).numpy(), reference(inner, value), rtol=1e-5, atol=1e-6)


def test_a_model_without_groups_is_left_as_it_is():
    model = network(1, 4)
    assert replace_grouped_convolutions(model) is model
