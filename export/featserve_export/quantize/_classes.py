"""Whether a network in eight bits sees the same things: its class of each of many crops against the one in float."""

from collections.abc import Callable

import numpy as np
from tensorflow.core.framework import graph_pb2

from ._graph import Array

_CROPS = 200
# Where a classifier leads by less than this any rounding changes the class.
_MIN_LEAD = 0.01
MIN_SAME = 0.99
# Of all crops, those included; a network that keeps fewer changes its mind about other photos even more often.
MIN_SAME_OF_ALL = 0.94


class ClassCheck:
    """The classes of crops in float, to compare others with.

    Args:
        classify: activations to probabilities, `(count, classes)`.
        activations: of all crops, computed by the given graph.
        graph_def: the graph in float.

    Attributes:
        count: crops whose class leads by 0.01, at most 200.
    """

    def __init__(
        self,
        classify: Callable[[Array], Array],
        activations: Callable[[graph_pb2.GraphDef], Array],
        graph_def: graph_pb2.GraphDef,
    ) -> None:
        self._classify = classify
        self._activations = activations
        probabilities = self._probabilities(graph_def)
        ranked = np.sort(probabilities, axis=1)
        decided = ranked[:, -1] - ranked[:, -2] >= _MIN_LEAD
        self._chosen = decided & (np.cumsum(decided) <= _CROPS)
        self._classes = probabilities.argmax(1)
        self.count = int(self._chosen.sum())

    def same(self, graph_def: graph_pb2.GraphDef) -> tuple[float | None, float]:
        """Shares that keep their class, 0..1: of those crops, None where there are none, and of all crops."""
        kept = self._probabilities(graph_def).argmax(1) == self._classes
        return float(kept[self._chosen].mean()) if self.count else None, float(kept.mean())

    def _probabilities(self, graph_def: graph_pb2.GraphDef) -> Array:
        return self._classify(self._activations(graph_def))
