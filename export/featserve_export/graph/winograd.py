"""Winograd's convolutions, F(4x4, 3x3): sixteen results of a filter from 36 multiplications instead of 144.

Reference: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", https://arxiv.org/abs/1509.09308. A tile
of 6 by 6 pixels is transformed, multiplied by a transformed kernel, which has four times the numbers of the kernel
itself, and transformed back into 4 by 4 pixels. Tiles and transforms pay where many channels share them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from ..errors import InvalidOptionError
from .freeze import FrozenGraph

#: Smaller ones are as fast, or faster, by Conv2D, which also needs fewer numbers for a kernel.
MIN_PIXELS = 28 * 28
MIN_CHANNELS, MIN_PRODUCT = 128, 128 * 256
_OUT, _TILE = 4, 6
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64) / 24
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """A convolution that can be replaced."""

    name: str
    images: str
    kernel: str
    #: Of the images: height, width, channels.
    shape: tuple[int, int, int]
    #: Pixels of zeros on each side.
    margin: int


def with_winograd(graph: FrozenGraph) -> FrozenGraph:
    """The same network with Winograd's convolutions where they are faster.

    Args:
        graph: in float32.

    Raises:
        InvalidOptionError: there is no such convolution.
    """
    found = {each.name: each for each in _convolutions(graph)}
    if not found:
        raise InvalidOptionError(
            f"expected a network with 3x3 convolutions of stride 1, at least {MIN_PIXELS} pixels and {MIN_CHANNELS} "
            "channels for --convolutions winograd, as VGG's; this one has none: leave the option out"
        )
    weights = dict(graph.weights)
    graph_def = graph_pb2.GraphDef(versions=graph.graph_def.versions, library=graph.graph_def.library)
    for node in graph.graph_def.node:
        if node.name in found:
            each = found[node.name]
            kernel = transformed(graph.weights[each.kernel])
            nodes, name = _nodes(each, kernel.shape)
            graph_def.node.extend(nodes)
            weights[name] = kernel
        else:
            graph_def.node.add().CopyFrom(node)
    return dataclasses.replace(graph, graph_def=graph_def, weights=weights).keep(list(graph.outputs))


def convolve(images: tf.Tensor, kernel: tf.Tensor, margin: int) -> tf.Tensor:
    """Convolve with stride 1.

    Args:
        images: float32 `(batch, height, width, channels)`; all but the batch are known.
        kernel: float32 `(36, channels, filters)`, from `transformed`.
        margin: pixels of zeros on each side: 1 keeps the size, 0 takes two pixels from height and width.

    Returns:
        float32 `(batch, height, width, filters)`.
    """
    height, width = (images.shape[axis] + 2 * margin - 2 for axis in (1, 2))
    channels, filters = kernel.shape[1:]
    rows, columns = -(-height // _OUT), -(-width // _OUT)
    ends = [[margin, _OUT * (count + 1) - margin - images.shape[axis]] for axis, count in ((1, rows), (2, columns))]
    padded = tf.pad(images, [[0, 0], *ends, [0, 0]])
    tall = tf.matmul(_INPUT, _overlapping(tf.reshape(padded, (-1, rows + 1, _OUT, _OUT * (columns + 1) * channels))))
    tiles = tf.matmul(_INPUT, _overlapping(tf.reshape(tall, (-1, columns + 1, _OUT, channels))))
    tiles = tf.transpose(tf.reshape(tiles, (-1, _TILE, columns, _TILE, channels)), (1, 3, 0, 2, 4))
    products = tf.matmul(tf.reshape(tiles, (_TILE * _TILE, -1, channels)), kernel)
    narrow = tf.matmul(_OUTPUT, tf.reshape(products, (_TILE, _TILE, -1)))
    pixels = tf.matmul(_OUTPUT, tf.reshape(narrow, (_TILE, -1)))
    pixels = tf.transpose(tf.reshape(pixels, (_OUT, _OUT, -1, columns, filters)), (2, 0, 3, 1, 4))
    return tf.reshape(pixels, (-1, _OUT * rows, _OUT * columns, filters))[:, :height, :width]


def transformed(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The kernel that `convolve` takes, from one of `(3, 3, channels, filters)`."""
    tiles = np.einsum("ki,ijcf,lj->klcf", _KERNEL, kernel.astype(np.float64), _KERNEL, optimize=True)
    product: npt.NDArray[np.float32] = tiles.reshape(_TILE * _TILE, *kernel.shape[2:]).astype(np.float32)
    return product


def _overlapping(blocks: tf.Tensor) -> tf.Tensor:
    """Tiles of six from blocks of four: `(n, count + 1, 4, values)` to `(n, count, 6, values)`."""
    return tf.concat([blocks[:, :-1], blocks[:, 1:, : _TILE - _OUT]], axis=2)


def _convolutions(graph: FrozenGraph) -> Iterator[_Convolution]:
    shapes = tf.Graph()
    with shapes.as_default():
        tf.graph_util.import_graph_def(graph.graph_def, name="")
    for node in graph.graph_def.node:
        if node.op != "Conv2D" or node.input[1] not in graph.weights:
            continue
        images = shapes.get_operation_by_name(node.name).inputs[0].shape
        kernel = graph.weights[node.input[1]]
        ones = all(side == 1 for name in ("strides", "dilations") for side in node.attr[name].list.i)
        padding = {b"SAME": 1, b"VALID": 0}.get(node.attr["padding"].s)
        if (
            ones
            and padding is not None
            and node.attr["data_format"].s == b"NHWC"
            and kernel.dtype == np.float32
            and kernel.shape[:2] == (3, 3)
            and kernel.shape[2] == images[3]
            and min(kernel.shape[2:]) >= MIN_CHANNELS
            and kernel.shape[2] * kernel.shape[3] >= MIN_PRODUCT
            and images[1:3].is_fully_defined()
            and images[1] * images[2] >= MIN_PIXELS
        ):
            yield _Convolution(node.name, node.input[0], node.input[1], tuple(images[1:]), padding)


def _nodes(convolution: _Convolution, kernel: tuple[int, ...]) -> tuple[list[node_def_pb2.NodeDef], str]:
    """The nodes that stand for a convolution, the last under its name, and the name of the kernel's placeholder."""
    place = f"{convolution.name}/winograd"
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, (None, *convolution.shape), name=f"{place}/images")
        weights = tf.compat.v1.placeholder(tf.float32, kernel, name=f"{place}/kernel")
        with tf.name_scope(f"{place}/"):
            result = convolve(images, weights, convolution.margin)
    renamed = {result.op.name: convolution.name}
    nodes = []
    for node in graph.as_graph_def().node:
        if node.name == images.op.name:
            continue
        node.name = renamed.get(node.name, node.name)
        node.input[:] = [convolution.images if name == images.op.name else name for name in node.input]
        nodes.append(node)
    return nodes, weights.op.name
