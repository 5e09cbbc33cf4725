"""Finds the layers that oneDNN can compute in eight bits.

A layer is a convolution or matrix product with everything that the quantised kernel does in the same step:
`Pad -> convolution -> BiasAdd -> Add (residual) -> Relu`, each optional but the convolution.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from tensorflow.core.framework import node_def_pb2

from ..graph.weights import producer
from .graph import Array, FloatGraph, tensor_name

LINEAR_OPS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
_ADDITIONS = ("BiasAdd", "Add", "AddV2", "AddN")
_ACTIVATIONS = {"Relu": np.inf, "Relu6": 6.0}

# ((top, bottom), (left, right))
Padding = tuple[tuple[int, int], tuple[int, int]]
NO_PADDING: Padding = ((0, 0), (0, 0))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution or matrix product and what is fused with it.

    Attributes:
        name: node of the convolution.
        op: its operation.
        input: tensor that is convolved, before padding.
        output: tensor behind the last fused operation.
        kernel: `(height, width, in, out)`, or `(height, width, channels, 1)` where depthwise.
        bias: `(out,)`.
        strides: `(vertical, horizontal)`.
        padding: zeros added to `input`.
        ceiling: upper bound of the activation: 6 for ReLU6, inf for ReLU, None where there is none.
        residual: tensor that is added before the activation.
        members: the nodes that the layer replaces.
        multiplications: for one image.
    """

    name: str
    op: str
    input: str
    output: str
    kernel: Array
    bias: Array
    strides: tuple[int, int]
    padding: Padding
    ceiling: float | None
    residual: str | None
    members: tuple[str, ...]
    multiplications: int

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved alone."""
        return self.op == "DepthwiseConv2dNative"


def find_layers(graph: FloatGraph) -> tuple[list[Layer], dict[str, str]]:
    """Matches every convolution and matrix product.

    Returns:
        The layers in execution order, and for each one that cannot be quantised its node and the reason.
    """
    layers: list[Layer] = []
    refused: dict[str, str] = {}
    taken: set[str] = set()
    summands: set[str | None] = set()
    # Backwards: of two convolutions that meet in one addition, the later one takes it: the other's result is there.
    for node in reversed(graph.order):
        if node.op in LINEAR_OPS:
            reason = _obstacle(graph, node)
            if reason:
                refused[node.name] = reason
            else:
                layer = _match(graph, node, taken, summands)
                taken.update(layer.members)
                summands.add(layer.residual)
                layers.append(layer)
    return layers[::-1], dict(reversed(refused.items()))


def _obstacle(graph: FloatGraph, node: node_def_pb2.NodeDef) -> str | None:
    kernel = graph.constant(node.input[1])
    if kernel is None:
        return "its weights are not constant"
    shape = graph.shape(node.input[0])
    if node.op == "MatMul":
        transposed = node.attr["transpose_a"].b or node.attr["transpose_b"].b
        return "its operands are transposed" if transposed else None
    if node.attr["data_format"].s not in (b"", b"NHWC"):
        return "its data format is not NHWC"
    if any(step != 1 for step in node.attr["dilations"].list.i):
        return "it is dilated"
    if node.op == "DepthwiseConv2dNative" and kernel.shape[3] != 1:
        return "its depth multiplier is not 1"
    if shape is None or None in shape[1:]:
        return "the size of its input is not fixed"
    if node.op == "Conv2D" and kernel.shape[2] != shape[3]:
        return "it is grouped"
    return None


def _match(graph: FloatGraph, node: node_def_pb2.NodeDef, taken: set[str], summands: set[str | None]) -> Layer:
    kernel = np.asarray(graph.constant(node.input[1]), np.float32)
    if node.op == "MatMul":
        kernel = kernel[None, None]
    channels = kernel.shape[2] if node.op == "DepthwiseConv2dNative" else kernel.shape[3]
    members = [node.name]
    output, bias = node.name, np.zeros(channels, np.float32)
    ceiling: float | None = None
    residual: str | None = None

    # The graph optimiser moves constants behind a residual sum, so biases may stand on both sides of it.
    while (following := graph.only_reader(output)) is not None and following.op in _ADDITIONS:
        if len(following.input) != 2 or following.name in taken or following.input[0] == following.input[1]:
            break
        other = _other_input(following, output)
        added = graph.constant(other)
        if added is not None and added.size == channels and added.shape[-1] == channels:
            bias = bias + np.asarray(added, np.float32).reshape(-1)
        elif residual is None and _can_be_summand(graph, node.name, other, following.name, summands):
            residual = tensor_name(other)
        else:
            break
        output = following.name
        members.append(output)
    if following is not None and following.op in _ACTIVATIONS:
        ceiling, output = _ACTIVATIONS[following.op], following.name
        members.append(output)

    source, strides, padding = tensor_name(node.input[0]), (1, 1), ((0, 0), (0, 0))
    if node.op != "MatMul":
        strides = (node.attr["strides"].list.i[1], node.attr["strides"].list.i[2])
        padding = _padding(graph, node, kernel)
        pad = graph.nodes[producer(source)]
        if (
            pad.op == "Pad"
            and node.attr["padding"].s == b"VALID"
            and (zeros := spatial_padding(graph, pad)) is not None
        ):
            source, padding = tensor_name(pad.input[0]), zeros
            if graph.only_reader(pad.name) is not None:
                members.append(pad.name)
    pixels = [size or 1 for size in (graph.shape(node.name) or ())[1:3]] if node.op != "MatMul" else []
    return Layer(
        name=node.name,
        op=node.op,
        input=source,
        output=output,
        kernel=kernel,
        bias=bias,
        strides=strides,
        padding=padding,
        ceiling=ceiling,
        residual=residual,
        members=tuple(members),
        multiplications=int(np.prod(pixels)) * kernel.size,
    )


def _other_input(node: node_def_pb2.NodeDef, name: str) -> str:
    return str(node.input[1] if tensor_name(node.input[0]) == name else node.input[0])


def _can_be_summand(
    graph: FloatGraph, convolution: str, summand: str, addition: str, summands: Collection[str | None]
) -> bool:
    if graph.constant(summand) is not None or graph.shape(summand) != graph.shape(convolution):
        return False
    if tensor_name(summand) in summands:
        return False
    # The kernel overwrites the summand with the sum, so nobody may read it afterwards.
    others = [reader.name for reader in graph.readers[tensor_name(summand)] if reader.name != addition]
    return not any(graph.follows(other, addition) for other in others)


def spatial_padding(graph: FloatGraph, pad: node_def_pb2.NodeDef) -> Padding | None:
    """The zeros that a `Pad` adds above, below, left and right; None where it pads anything else."""
    amounts = graph.constant(pad.input[1])
    if amounts is None or amounts.shape != (4, 2) or amounts[[0, 3]].any():
        return None
    (top, bottom), (left, right) = amounts[1:3].tolist()
    return (top, bottom), (left, right)


def _padding(graph: FloatGraph, node: node_def_pb2.NodeDef, kernel: Array) -> Padding:
    mode = node.attr["padding"].s
    if mode == b"EXPLICIT":
        amounts = list(node.attr["explicit_paddings"].list.i)
        return (amounts[2], amounts[3]), (amounts[4], amounts[5])
    if mode == b"VALID":
        return (0, 0), (0, 0)
    shape = graph.shape(node.input[0]) or ()
    sides = []
    for size, window, stride in zip(shape[1:3], kernel.shape[:2], list(node.attr["strides"].list.i)[1:3], strict=True):
        total = max((-(-(size or 1) // stride) - 1) * stride + window - (size or 1), 0)
        sides.append((total // 2, total - total // 2))
    return sides[0], sides[1]
