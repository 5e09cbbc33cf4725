"""Whether a network in eight bits sees the same things: its class of each of many crops against the one in float."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tensorflow.core.framework import graph_pb2

from ._graph import Array

_CROPS = 200
# Where a classifier leads by less than this any rounding changes the class. On photos that calibration never saw such
# crops are one in eleven and a fifth of them change, so 99 % of the others make 97 % of all.
_MIN_LEAD = 0.01
MIN_SAME = 0.99


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

    def same(self, graph_def: graph_pb2.GraphDef) -> float | None:
        """Share of those crops that keep their class, 0..1; None where there are none."""
        return float(self._kept(graph_def)[self._chosen].mean()) if self.count else None

    def same_of_all(self, graph_def: graph_pb2.GraphDef) -> float:
        """Share of all crops that keep their class, 0..1."""
        return float(self._kept(graph_def).mean())

    def _kept(self, graph_def: graph_pb2.GraphDef) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = self._probabilities(graph_def).argmax(1) == self._classes
        return kept

    def _probabilities(self, graph_def: graph_pb2.GraphDef) -> Array:
        return self._classify(self._activations(graph_def))
