"""Whether a network in eight bits sees the same things: its class of each of many crops against the one in float."""

from collections.abc import Callable

from tensorflow.core.framework import graph_pb2

from .graph import Array

MIN_SAME = 0.97


class ClassCheck:
    """The classes of crops in float, to compare others with.

    Args:
        classify: activations to probabilities, `(count, classes)`.
        activations: of all crops, computed by the given graph.
        graph_def: the graph in float.

    Attributes:
        count: crops that are compared.
    """

    def __init__(
        self,
        classify: Callable[[Array], Array],
        activations: Callable[[graph_pb2.GraphDef], Array],
        graph_def: graph_pb2.GraphDef,
    ) -> None:
        self._classify = classify
        self._activations = activations
        self._classes = self._top(graph_def)
        self.count = len(self._classes)

    def same(self, graph_def: graph_pb2.GraphDef) -> float:
        """Share of the crops that keep their top class, 0..1."""
        return float((self._top(graph_def) == self._classes).mean())

    def _top(self, graph_def: graph_pb2.GraphDef) -> Array:
        top: Array = self._classify(self._activations(graph_def)).argmax(1)
        return top
