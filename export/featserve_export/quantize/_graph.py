"""Reads a frozen GraphDef: who produces and who reads a tensor, what is constant, what the shapes are."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

Array = npt.NDArray[np.float32]


def tensor_name(name: str) -> str:
    """Drops the output number of a first output: `conv:0` and `conv` are one tensor."""
    return name.removesuffix(":0")


def producer(name: str) -> str:
    """The node that a tensor or control input comes from."""
    return name.removeprefix("^").split(":", 1)[0]


class FloatGraph:
    """A frozen GraphDef in execution order, with its constants and static shapes.

    Args:
        graph_def: one placeholder, constants and plain operations.
        outputs: names of the nodes that are fetched.
    """

    def __init__(self, graph_def: graph_pb2.GraphDef, outputs: Sequence[str]) -> None:
        self.graph_def = relu_before_max_pool(graph_def)
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


def relu_before_max_pool(graph_def: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """Undoes what the graph optimiser does: `MaxPool -> Relu` becomes `Relu -> MaxPool`, the same values.

    The pair keeps its node names in order: whoever read the second still reads the second.
    """
    swapped = graph_pb2.GraphDef()
    swapped.CopyFrom(graph_def)
    nodes = {node.name: node for node in swapped.node}
    readers = Counter(producer(name) for node in swapped.node for name in node.input)
    for relu in swapped.node:
        pool = nodes[producer(relu.input[0])] if relu.op in ("Relu", "Relu6") else None
        if pool is not None and pool.op == "MaxPool" and readers[pool.name] == 1:
            first, second = pool.name, relu.name
            old = node_def_pb2.NodeDef()
            old.CopyFrom(pool)
            pool.CopyFrom(relu)
            relu.CopyFrom(old)
            pool.name, relu.name = first, second
            pool.input[:] = old.input
            relu.input[:] = [first]
    return swapped
