"""Whether a network in eight bits sees the same things: its class of each of many crops against the one in float."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from ._graph import Array

CROPS = 200
MIN_SAME = 0.97
# A classifier that leads by less than this has no class to keep: any rounding changes it.
MIN_LEAD = 0.01
_LEAST_SIDE = 0.4
_DRAWN = 300
_SEED = 0


def draw_crops(photos: Array) -> Array:
    """Cuts squares of 40 to 100 % of the photos' sides and scales them to the photos' size, each time the same.

    Args:
        photos: `(count, height, width, 3)` float32.

    Returns:
        `(300, height, width, 3)` float32: some of them will show nothing that has a class.
    """
    rng = np.random.default_rng(_SEED)
    sides = rng.uniform(_LEAST_SIDE, 1, _DRAWN)
    corners = rng.uniform(0, 1, (_DRAWN, 2)) * (1 - sides)[:, None]
    boxes = np.concatenate([corners, corners + sides[:, None]], 1)
    crops: Array = tf.image.crop_and_resize(photos, boxes, np.arange(_DRAWN) % len(photos), photos.shape[1:3]).numpy()
    return crops


class ClassCheck:
    """The classes of crops in float, to compare others with.

    Args:
        classify: activations to probabilities, `(count, classes)`.
        activations: of all crops, computed by the given graph.
        graph_def: the graph in float.

    Attributes:
        count: crops that have a class, at most 200.
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
        decided = ranked[:, -1] - ranked[:, -2] >= MIN_LEAD
        self._chosen = decided & (np.cumsum(decided) <= CROPS)
        self._classes = probabilities.argmax(1)
        self.count = int(self._chosen.sum())

    def same(self, graph_def: graph_pb2.GraphDef) -> float | None:
        """Share of the crops that keep their class, 0..1; None where no crop has a class."""
        classes = self._probabilities(graph_def).argmax(1)
        return float((classes == self._classes)[self._chosen].mean()) if self.count else None

    def _probabilities(self, graph_def: graph_pb2.GraphDef) -> Array:
        return self._classify(self._activations(graph_def))
