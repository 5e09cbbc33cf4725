"""Reads a frozen GraphDef: who produces and who reads a tensor, what is constant, what the shapes are."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from ..graph.weights import producer

Array = npt.NDArray[np.float32]


def tensor_name(name: str) -> str:
    """Drops the output number of a first output: `conv:0` and `conv` are one tensor."""
    return name.removesuffix(":0")


class FloatGraph:
    """A frozen GraphDef in execution order, with its constants and static shapes.

    Args:
        graph_def: one placeholder, constants and plain operations.
        outputs: names of the nodes that are fetched.
    """

    def __init__(self, graph_def: graph_pb2.GraphDef, outputs: Sequence[str]) -> None:
        self.graph_def = relus_at_sources(graph_def, outputs)
        self.outputs = list(outputs)
        self.nodes = {node.name: node for node in self.graph_def.node}
        self.order = _topological(self.nodes)
        self.position = {node.name: index for index, node in enumerate(self.order)}
        self.readers: dict[str, list[node_def_pb2.NodeDef]] = defaultdict(list)
        for node in self.order:
            for name in dict.fromkeys(tensor_name(name) for name in node.input):
                self.readers[name].append(node)
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(self.graph_def, name="")
        self._shapes = {
            tensor_name(tensor.name): tensor.shape for op in graph.get_operations() for tensor in op.outputs
        }

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a constant tensor, None for any other."""
        node = self.nodes[producer(name)]
        while node.op == "Identity":
            node = self.nodes[producer(node.input[0])]
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """The static shape of a tensor, None where even the rank is unknown."""
        shape = self._shapes[tensor_name(name)]
        return tuple(shape.as_list()) if shape.rank is not None else None

    def only_reader(self, name: str) -> node_def_pb2.NodeDef | None:
        """The one node that reads a tensor, None where there are several or where it is an output."""
        readers = self.readers[tensor_name(name)]
        return readers[0] if len(readers) == 1 and producer(name) not in self.outputs else None

    def follows(self, name: str, ancestor: str) -> bool:
        """Whether node `name` depends on node `ancestor`."""
        seen, waiting = {name}, [name]
        while waiting:
            node = self.nodes[waiting.pop()]
            for source in map(producer, node.input):
                if source == ancestor:
                    return True
                if source not in seen and self.position[source] > self.position[ancestor]:
                    seen.add(source)
                    waiting.append(source)
        return False


def _topological(nodes: dict[str, node_def_pb2.NodeDef]) -> list[node_def_pb2.NodeDef]:
    order: list[node_def_pb2.NodeDef] = []
    done: set[str] = set()
    for root in nodes:
        waiting = [root]
        while waiting:
            name = waiting[-1]
            missing = [source for source in map(producer, nodes[name].input) if source not in done]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            if name not in done:
                done.add(name)
                order.append(nodes[name])
    return order


def relus_at_sources(graph_def: graph_pb2.GraphDef, outputs: Collection[str]) -> graph_pb2.GraphDef:
    """Undoes what the graph optimiser does: a ReLU behind a pooling or a concatenation goes back before it.

    `Relu(MaxPool(x))` is `MaxPool(Relu(x))` and `Relu(ConcatV2(x, y))` is `ConcatV2(Relu(x), Relu(y))`. There the
    quantised convolution takes it in.

    Args:
        graph_def: left as it is.
        outputs: names of the nodes that must keep their values.
    """
    nodes = {node.name: node for node in graph_def.node}
    readers = Counter(producer(name) for node in graph_def.node for name in node.input)
    waiting = [node for node in graph_def.node if node.op in ("Relu", "Relu6")]
    while waiting:
        relu = waiting.pop()
        moved = nodes[producer(relu.input[0])]
        if moved.op not in ("MaxPool", "ConcatV2") or readers[moved.name] != 1 or moved.name in outputs:
            continue
        behind = node_def_pb2.NodeDef()
        behind.CopyFrom(moved)
        behind.name = relu.name
        for index, source in enumerate(moved.input[: len(moved.input) - (moved.op == "ConcatV2")]):
            before = node_def_pb2.NodeDef()
            before.CopyFrom(relu)
            before.name = f"{relu.name}/{index}"
            before.input[:] = [source]
            behind.input[index] = before.name
            nodes[before.name] = before
            waiting.append(before)
        nodes[relu.name] = behind
        del nodes[moved.name]
    rewritten = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    rewritten.node.extend(nodes.values())
    return rewritten
