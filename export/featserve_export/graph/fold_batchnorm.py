"""Folds per-channel arithmetic into the convolution that it follows.

Keras writes batch normalisation at inference as a multiplication and an addition of constants behind the convolution;
`convolution, + bias, * scale, + shift` is one convolution with scaled weights and one bias.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from .weights import Weights, as_placeholder, is_large, producer

# Axes that count output channels in a kernel: (height, width, in, out), (height, width, in, multiplier), (in, out).
_CHANNEL_AXES = {"Conv2D": (3,), "DepthwiseConv2dNative": (2, 3), "MatMul": (1,)}
_ADDITIONS = frozenset({"BiasAdd", "Add", "AddV2"})
_Array = npt.NDArray[np.float32]


@dataclass
class _Chain:
    head: node_def_pb2.NodeDef
    links: list[node_def_pb2.NodeDef]
    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]


def fold_affine_chains(graph_def: graph_pb2.GraphDef, weights: Weights) -> graph_pb2.GraphDef:
    """Merges constant multiplications, additions and biases behind a convolution into its weights and one bias.

    Args:
        graph_def: frozen, constants folded. Left as it is.
        weights: values of placeholders, read as constants are; a folded kernel takes the place of the one it came from.

    Returns:
        A graph with the same node names where something still reads them; each folded chain ends in one `BiasAdd` that
        has the name of the chain's last operation.
    """
    nodes = {node.name: node for node in graph_def.node}
    consumers = Counter(producer(name) for node in graph_def.node for name in node.input)
    following = {
        producer(name): node for node in graph_def.node for name in node.input if consumers[producer(name)] == 1
    }
    constants = _Constants(nodes, weights)
    replaced: dict[str, list[node_def_pb2.NodeDef]] = {}
    for node in graph_def.node:
        if node.op in _CHANNEL_AXES and constants.value(node.input[1]) is not None:
            chain = _follow(node, following, constants)
            if chain is not None:
                replaced.update(dict.fromkeys((link.name for link in chain.links), []))
                replaced[node.name] = []
                replaced[chain.links[-1].name] = _folded(chain, constants)
    folded = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        folded.node.extend(replaced.get(node.name, [node]))
    return _without_unread_constants(folded, weights)


class _Constants:
    def __init__(self, nodes: dict[str, node_def_pb2.NodeDef], weights: Weights) -> None:
        self._nodes = nodes
        self._weights = weights

    def value(self, name: str) -> _Array | None:
        node = self._nodes.get(producer(name))
        while node is not None and node.op == "Identity":
            node = self._nodes.get(producer(node.input[0]))
        if node is not None and node.name in self._weights:
            weight: _Array = self._weights[node.name]
            return weight if weight.dtype == np.float32 else None
        if node is None or node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
            return None
        value: _Array = tf.make_ndarray(node.attr["value"].tensor)
        return value

    def add(self, name: str, value: _Array) -> node_def_pb2.NodeDef:
        node = node_def_pb2.NodeDef(name=name, op="Const")
        if is_large(value.shape, tf.float32):
            self._weights[name] = value
            as_placeholder(node, value)
        else:
            node.attr["dtype"].type = tf.float32.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return node


def _follow(
    head: node_def_pb2.NodeDef, following: dict[str, node_def_pb2.NodeDef], constants: _Constants
) -> _Chain | None:
    if ("data_format" in head.attr and head.attr["data_format"].s != b"NHWC") or (
        "transpose_b" in head.attr and head.attr["transpose_b"].b
    ):
        return None
    kernel = constants.value(head.input[1])
    if kernel is None:
        return None
    channels = int(np.prod([kernel.shape[axis] for axis in _CHANNEL_AXES[head.op]]))
    chain = _Chain(head, [], np.ones(channels), np.zeros(channels))
    last = head
    while (link := following.get(last.name)) is not None and len(link.input) == 2:
        operand = link.input[1] if producer(link.input[0]) == last.name else link.input[0]
        value = constants.value(operand)
        if value is None or value.size not in (1, channels) or value.size != max((1, *value.shape[-1:])):
            break
        vector = np.broadcast_to(value.reshape(-1).astype(np.float64), channels)
        if link.op in _ADDITIONS:
            chain.shift = chain.shift + vector
        elif link.op == "Mul":
            chain.scale, chain.shift = chain.scale * vector, chain.shift * vector
        elif link.op == "Sub" and producer(link.input[0]) == last.name:
            chain.shift = chain.shift - vector
        else:
            break
        chain.links.append(link)
        last = link
    if not chain.links or [link.op for link in chain.links] == ["BiasAdd"]:
        return None
    return chain


def _folded(chain: _Chain, constants: _Constants) -> list[node_def_pb2.NodeDef]:
    head, name = chain.head, chain.links[-1].name
    kernel = constants.value(head.input[1])
    if kernel is None:
        raise ValueError(f"{head.name} has no constant kernel")
    axes = _CHANNEL_AXES[head.op]
    scale = chain.scale.reshape([kernel.shape[axis] if axis in axes else 1 for axis in range(kernel.ndim)])
    scaled = constants.add(f"{head.name}/folded_kernel", (kernel * scale).astype(np.float32))
    bias = constants.add(f"{head.name}/folded_bias", chain.shift.astype(np.float32))
    convolution = node_def_pb2.NodeDef()
    convolution.CopyFrom(head)
    convolution.input[1] = scaled.name
    add = node_def_pb2.NodeDef(name=name, op="BiasAdd", input=[head.name, bias.name])
    add.attr["T"].type = tf.float32.as_datatype_enum
    return [scaled, bias, convolution, add]


def _without_unread_constants(graph_def: graph_pb2.GraphDef, weights: Weights) -> graph_pb2.GraphDef:
    read = {producer(name) for node in graph_def.node for name in node.input}
    unread = {node.name for node in graph_def.node if node.op == "Const" or node.name in weights} - read
    for name in unread & weights.keys():
        del weights[name]
    kept = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    kept.node.extend(node for node in graph_def.node if node.name not in unread)
    return kept
