"""Large tensors of a graph: arrays beside a GraphDef, which has placeholders for them, and variables in a SavedModel.

A server keeps several copies of a graph for each signature that was asked for, and one of a variable. A GraphDef is
also limited to 2 GB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.python.framework import op_def_registry

#: Smaller ones stay constants: a server's copies of them are no burden, and a variable has a cost of its own.
LARGE_BYTES = 16 << 10
Weights = dict[str, npt.NDArray[Any]]


def producer(name: str) -> str:
    """The node behind an input such as `^node` or `node:1`."""
    return name.removeprefix("^").split(":", 1)[0]


def ancestors(graph_def: graph_pb2.GraphDef, names: Iterable[str]) -> set[str]:
    """The nodes that `names` need, themselves included."""
    inputs = {node.name: [producer(name) for name in node.input] for node in graph_def.node}
    needed: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += inputs[name]
    return needed


def is_large(shape: Iterable[int], dtype: tf.DType) -> bool:
    """Whether a tensor is worth a variable."""
    return bool(dtype.is_floating or dtype == tf.qint8) and int(np.prod(list(shape))) * dtype.size > LARGE_BYTES


def as_placeholder(node: node_def_pb2.NodeDef, value: npt.NDArray[Any]) -> None:
    """Makes a node the place where `value` is fed."""
    placeholder = node_def_pb2.NodeDef(name=node.name, op="Placeholder", device=node.device)
    placeholder.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    placeholder.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
    node.CopyFrom(placeholder)


def take_constants(graph_def: graph_pb2.GraphDef, weights: Weights, shared: Collection[str] = ()) -> None:
    """Puts placeholders where large constants are, and those named in `shared`, and their values into `weights`."""
    for node in graph_def.node:
        if node.op == "Const":
            tensor = node.attr["value"].tensor
            sides = (side.size for side in tensor.tensor_shape.dim)
            if node.name in shared or is_large(sides, tf.as_dtype(tensor.dtype)):
                weights[node.name] = tf.make_ndarray(tensor)
                as_placeholder(node, weights[node.name])


def with_constants(graph_def: graph_pb2.GraphDef, weights: Mapping[str, npt.NDArray[Any]]) -> graph_pb2.GraphDef:
    """A graph that is whole by itself, of at most 2 GB."""
    whole = graph_pb2.GraphDef()
    whole.CopyFrom(graph_def)
    for node in whole.node:
        if node.name in weights:
            value = weights[node.name]
            node.CopyFrom(node_def_pb2.NodeDef(name=node.name, op="Const", device=node.device))
            node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return whole


def fold_weights(graph_def: graph_pb2.GraphDef, weights: Weights) -> None:
    """Computes what depends on weights and constants alone, such as a cast, and puts the results among the weights.

    Args:
        graph_def: its other placeholders are the inputs. Changed in place.
        weights: by the name of their placeholder; those that are not read any more go.
    """
    nodes = {node.name: node for node in graph_def.node}
    fixed = _fixed(nodes, weights)
    folded: dict[str, str] = {}
    for node in list(graph_def.node):
        if node.name in fixed:
            continue
        for index, name in enumerate(node.input):
            source = nodes[producer(name)]
            if name.startswith("^") or source.name not in fixed or source.op in ("Const", "Placeholder"):
                continue
            if not weights.keys() & ancestors(graph_def, [source.name]):
                continue
            if name not in folded:
                folded[name] = _fold(graph_def, nodes, name, weights)
            node.input[index] = folded[name]
    _drop_unread(graph_def, fixed, weights)


def _fixed(nodes: Mapping[str, node_def_pb2.NodeDef], weights: Mapping[str, Any]) -> set[str]:
    """The nodes that give the same for every request."""
    readers: dict[str, list[str]] = {}
    for node in nodes.values():
        for name in node.input:
            readers.setdefault(producer(name), []).append(node.name)
    varying = [
        node.name
        for node in nodes.values()
        if (node.op.startswith("Placeholder") and node.name not in weights)
        or (node.op != "Placeholder" and _is_stateful(node.op))
    ]
    found = set(varying)
    while varying:
        for reader in readers.get(varying.pop(), ()):
            if reader not in found:
                found.add(reader)
                varying.append(reader)
    return nodes.keys() - found


def _is_stateful(operation: str) -> bool:
    definition = op_def_registry.get(operation)
    return definition is None or bool(definition.is_stateful)


def _fold(graph_def: graph_pb2.GraphDef, nodes: Mapping[str, node_def_pb2.NodeDef], name: str, weights: Weights) -> str:
    while nodes[producer(name)].op == "Identity":
        name = str(nodes[producer(name)].input[0])
    if nodes[producer(name)].op in ("Const", "Placeholder"):
        return name
    needed = ancestors(graph_def, [producer(name)])
    part = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    part.node.extend(nodes[each] for each in needed)
    tensor = name if ":" in name else f"{name}:0"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(part, name="")
        value = session.run(tensor, {f"{each}:0": weights[each] for each in needed & weights.keys()})
    folded = graph_def.node.add(name=f"{name.replace(':', '/')}/folded")
    weights[folded.name] = value
    as_placeholder(folded, value)
    return str(folded.name)


def _drop_unread(graph_def: graph_pb2.GraphDef, fixed: set[str], weights: Weights) -> None:
    varying = [node for node in graph_def.node if node.name not in fixed]
    needed = ancestors(graph_def, [node.name for node in varying])
    kept = [node for node in graph_def.node if node.name in needed]
    del graph_def.node[:]
    graph_def.node.extend(kept)
    for name in weights.keys() - needed:
        del weights[name]


class WeightVariables:
    """Variables in the current graph, one for all that have the same value."""

    def __init__(self) -> None:
        self._variables: dict[bytes, tf.Variable] = {}
        self._reads: dict[bytes, tf.Tensor] = {}
        self._values: dict[bytes, npt.NDArray[Any]] = {}

    def read(self, value: npt.NDArray[Any]) -> tf.Tensor:
        """A tensor of the graph that has this value once it is loaded."""
        key = hashlib.sha256(f"{value.dtype} {value.shape} ".encode())
        key.update(np.ascontiguousarray(value).view(np.uint8).data)
        digest = key.digest()
        if digest not in self._variables:
            with tf.name_scope("weights"):
                variable = tf.compat.v1.Variable(
                    tf.compat.v1.placeholder(value.dtype, value.shape),
                    name=str(len(self._variables)),
                    use_resource=True,
                )
                self._variables[digest], self._values[digest] = variable, value
                self._reads[digest] = variable.read_value()
        return self._reads[digest]

    def load(self, session: tf.compat.v1.Session) -> None:
        """Gives the variables their values."""
        for key, variable in self._variables.items():
            session.run(variable.initializer, {variable.initializer.inputs[1]: self._values[key]})
