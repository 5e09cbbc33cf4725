"""Lets a trace compute grouped convolutions by what every TensorFlow server can run.

Keras runs `Conv2D(groups=…)` on a CPU as a function that XLA must compile: a server built without XLA cannot run it,
and one built with it runs it many times slower than a depthwise convolution.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


@contextlib.contextmanager
def plain_grouped_convolutions() -> Iterator[None]:
    """Makes a depthwise convolution where a group is one channel, and one convolution a group elsewhere, meanwhile."""
    original = keras.layers.Conv2D.convolution_op

    def convolution_op(layer: keras.layers.Conv2D, inputs: Any, kernel: Any) -> Any:
        return _grouped(layer, inputs, kernel) if layer.groups > 1 else original(layer, inputs, kernel)

    keras.layers.Conv2D.convolution_op = convolution_op
    try:
        yield
    finally:
        keras.layers.Conv2D.convolution_op = original


def _grouped(layer: keras.layers.Conv2D, inputs: Any, kernel: Any) -> Any:
    options = {"strides": layer.strides, "padding": layer.padding, "dilation_rate": layer.dilation_rate}
    if kernel.shape[2] == 1 and layer.data_format == "channels_last":
        height, width, _, filters = kernel.shape
        depthwise = keras.ops.reshape(kernel, (height, width, layer.groups, filters // layer.groups))
        return keras.ops.depthwise_conv(inputs, depthwise, **options)
    axis = -1 if layer.data_format == "channels_last" else 1
    pairs = zip(
        keras.ops.split(inputs, layer.groups, axis=axis), keras.ops.split(kernel, layer.groups, axis=-1), strict=True
    )
    outputs = [keras.ops.conv(x, k, data_format=layer.data_format, **options) for x, k in pairs]
    return keras.ops.concatenate(outputs, axis=axis)
