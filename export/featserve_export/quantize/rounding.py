"""Rounds weights so that the layer's outputs, not the weights, are nearest to those in float.

Neighbouring inputs of a convolution are alike, so the errors of rounding can be made to cancel: weights are rounded one
after another, and what each loses is made up for by those not yet rounded, last of all by the bias, which stays in
float. Reference: Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers,
2022 (https://arxiv.org/abs/2210.17323).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from ..progress import Progress, silent
from .graph import Array
from .layers import Layer

WEIGHT_LEVELS = 127
# Beyond this many weights a channel, errors average out by themselves and the solution takes minutes.
_MAX_WEIGHTS = 1200
_DAMPING = 0.01
_BLOCK = 64
# Neighbouring patches say the same; more of them an image only cost time.
_PATCHES = 2048
_Doubles = npt.NDArray[np.float64]


def second_moments(
    graph_def: graph_pb2.GraphDef,
    input_name: str,
    layers: Sequence[Layer],
    batches: Sequence[Array],
    progress: Progress = silent,
) -> dict[str, _Doubles]:
    """Measures how the inputs of each layer go together.

    Args:
        graph_def: frozen, in float.
        input_name: the placeholder.
        layers: those of the graph.
        batches: each `(batch, height, width, 3)` float32.
        progress: called with the task, batches done and batches in all.

    Returns:
        Layer name to `(groups, n + 1, n + 1)`, the mean of `x * x.T` where `x` are the `n` inputs of one output value
        and a one for the bias; a depthwise layer has a group for each channel. Large layers are left out.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
        source = graph.get_tensor_by_name(f"{input_name}:0")
        sums = {layer.name: _products(graph, layer) for layer in layers if _inputs(layer) <= _MAX_WEIGHTS}
    totals: dict[str, _Doubles] = {}
    with tf.compat.v1.Session(graph=graph) as session:
        for index, batch in enumerate(batches):
            for name, value in session.run(sums, {source: batch}).items():
                totals[name] = totals.get(name, 0) + value.astype(np.float64)
            progress("weights", index + 1, len(batches))
    return {name: total / total[:, -1:, -1:] for name, total in totals.items()}


@dataclass(frozen=True)
class RoundedWeights:
    """A kernel in whole numbers, -127..127, symmetric, with a scale of its own for each output channel.

    Attributes:
        whole: shaped as the kernel.
        magnitude: `(out,)`, what 127 stands for.
        bias: `(out,)`, what goes with the rounded kernel.
    """

    whole: npt.NDArray[np.int8]
    magnitude: Array
    bias: Array


class Rounder:
    """Rounds each layer's weights, once.

    Args:
        moments: from `second_moments`; the weights of a layer without them are rounded to the nearest.
    """

    def __init__(self, moments: Mapping[str, _Doubles]) -> None:
        self._moments = moments
        self._done: dict[tuple[str, bytes], RoundedWeights] = {}

    def round(self, layer: Layer, profile: Array) -> RoundedWeights:
        """Rounds `kernel * profile`.

        Args:
            layer: whose kernel and bias.
            profile: `(in,)`, relative size of the input's channels.
        """
        key = (layer.name, profile.tobytes())
        if key not in self._done:
            moments = self._moments.get(layer.name)
            kernel = layer.kernel * profile.reshape(1, 1, -1, 1)
            if moments is not None:
                units = _inputs_units(layer, profile)
                moments = moments / (units[:, :, None] * units[:, None, :])
            self._done[key] = round_weights(kernel, layer.bias, layer.depthwise, moments)
        return self._done[key]


def round_weights(kernel: Array, bias: Array, depthwise: bool, moments: _Doubles | None) -> RoundedWeights:
    """Rounds a kernel.

    Args:
        kernel: `(height, width, in, out)`, or `(height, width, channels, 1)` where depthwise.
        bias: `(out,)`.
        depthwise: whether each channel is convolved alone.
        moments: of the inputs as the kernel sees them; None rounds each weight to the nearest.
    """
    rows = kernel.transpose((2, 3, 0, 1) if depthwise else (3, 0, 1, 2)).astype(np.float64)
    shape = rows.shape
    rows = rows.reshape((shape[0], 1, -1) if depthwise else (1, shape[0], -1))
    magnitude = np.abs(rows).max(-1)
    magnitude = np.where(magnitude == 0, 1.0, magnitude)
    step = magnitude / WEIGHT_LEVELS
    values = np.concatenate([rows, bias.reshape(*rows.shape[:2], 1)], -1)
    whole = np.rint(rows / step[..., None])
    if moments is not None:
        factor = _feedback(moments)
        count = rows.shape[-1]
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            lost = np.empty((*rows.shape[:2], stop - start))
            for index in range(start, stop):
                rounded = np.clip(np.rint(values[..., index] / step), -WEIGHT_LEVELS, WEIGHT_LEVELS)
                error = (values[..., index] - rounded * step) / factor[:, None, index, index]
                values[..., index + 1 : stop] -= error[..., None] * factor[:, None, index, index + 1 : stop]
                whole[..., index] = rounded
                lost[..., index - start] = error
            values[..., stop:] -= lost @ factor[:, start:stop, stop:]
    order = (2, 3, 0, 1) if depthwise else (1, 2, 3, 0)
    return RoundedWeights(
        whole.reshape(shape).transpose(order).astype(np.int8),
        magnitude.reshape(-1).astype(np.float32),
        values[..., -1].reshape(-1).astype(np.float32),
    )


def _feedback(moments: _Doubles) -> _Doubles:
    size = moments.shape[-1]
    damping = _DAMPING * np.trace(moments, axis1=1, axis2=2)[:, None, None] / size + 1e-12
    inverse = np.linalg.inv(moments + damping * np.eye(size))
    factor: _Doubles = np.linalg.cholesky(inverse).transpose(0, 2, 1)
    return factor


def _inputs_units(layer: Layer, profile: Array) -> _Doubles:
    height, width = layer.kernel.shape[:2]
    if layer.depthwise:
        units = np.repeat(profile[:, None], height * width, axis=1)
    else:
        units = np.tile(profile, height * width)[None]
    return np.concatenate([units, np.ones((len(units), 1))], 1)


def _inputs(layer: Layer) -> int:
    height, width, inputs, _ = layer.kernel.shape
    return int(height * width * (1 if layer.depthwise else inputs))


def _products(graph: tf.Graph, layer: Layer) -> Any:
    height, width, channels, _ = layer.kernel.shape
    values = graph.get_tensor_by_name(f"{layer.input}:0" if ":" not in layer.input else layer.input)
    if layer.op == "MatMul":
        values = values[:, None, None, :]
    values = tf.pad(values, [(0, 0), *layer.padding, (0, 0)])
    outputs = (values.shape[1] // layer.strides[0]) * (values.shape[2] // layer.strides[1])
    apart = max(math.isqrt(outputs // _PATCHES), 1)
    strides = [stride * apart for stride in layer.strides]
    # (batch, rows, columns, height * width * channels): channels vary fastest
    patches = tf.image.extract_patches(values, (1, height, width, 1), (1, *strides, 1), (1, 1, 1, 1), "VALID")
    if layer.depthwise:
        groups = tf.transpose(tf.reshape(patches, (-1, height * width, channels)), (2, 0, 1))
    else:
        groups = tf.reshape(patches, (1, -1, height * width * channels))
    groups = tf.concat([groups, tf.ones_like(groups[..., :1])], -1)
    return tf.matmul(groups, groups, transpose_a=True)
