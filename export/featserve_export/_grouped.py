"""Replaces grouped convolutions by what every TensorFlow server can run.

Keras runs `Conv2D(groups=…)` on a CPU as a function that XLA must compile: a server built without XLA cannot run it,
and one built with it runs it many times slower than a depthwise convolution.
"""

from typing import Any

import keras
from keras import layers


def replace_grouped_convolutions(model: keras.Model) -> keras.Model:
    """Rebuilds a model with depthwise convolutions where a group is one channel, and with one convolution a group else.

    Args:
        model: left as it is.

    Returns:
        A model with the same outputs and weights, or `model` itself where nothing is grouped.
    """
    if not any(_is_grouped(layer) for layer in model._flatten_layers()):
        return model
    replaced = keras.models.clone_model(model, clone_function=_clone)
    for source, target in zip(model.layers, replaced.layers, strict=True):
        if isinstance(target, keras.Model):
            continue  # has its weights already
        weights = source.get_weights()
        if isinstance(target, layers.DepthwiseConv2D) and _is_grouped(source):
            weights[0] = weights[0].reshape(target.kernel.shape)
        target.set_weights(weights)
    return replaced


def _is_grouped(layer: keras.Layer) -> bool:
    return isinstance(layer, layers.Conv2D) and layer.groups > 1


def _clone(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, keras.Model):
        return replace_grouped_convolutions(layer)
    if not _is_grouped(layer):
        return layer.__class__.from_config(layer.get_config())
    config = layer.get_config()
    if layer.kernel.shape[2] != 1:
        return _GroupedConv2D.from_config(config)
    for name in ("filters", "groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"):
        config.pop(name)
    return layers.DepthwiseConv2D(depth_multiplier=layer.filters // layer.groups, **config)


class _GroupedConv2D(layers.Conv2D):  # type: ignore[misc]
    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        pairs = zip(
            keras.ops.split(inputs, self.groups, axis=-1), keras.ops.split(kernel, self.groups, axis=-1), strict=True
        )
        return keras.ops.concatenate(
            [
                keras.ops.conv(x, k, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate)
                for x, k in pairs
            ],
            axis=-1,
        )
