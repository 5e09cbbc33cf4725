"""How much each layer alone, in eight bits, turns the features away from those in float."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from ..progress import Progress, silent
from .graph import Array, FloatGraph
from .layers import Layer
from .ranges import Range
from .rewrite import SWITCH, with_switches
from .rounding import Rounder


def cosines(expected: Array, received: Array) -> Array:
    """Cosine of each image's features, `(batch,)`; two zero vectors count as equal."""
    a = expected.reshape(len(expected), -1).astype(np.float64)
    b = received.reshape(len(received), -1).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1)
    cosine: Array = np.where(same, 1.0, (a * b).sum(1) / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    return cosine


def sensitivity(
    graph: FloatGraph,
    layers: Sequence[Layer],
    ranges: Mapping[str, Range],
    rounder: Rounder,
    method: str,
    input_name: str,
    images: Array,
    progress: Progress = silent,
) -> dict[str, float]:
    """Switches one layer after the other to eight bits and runs the rest in float.

    Args:
        graph: the float graph.
        layers: to be measured.
        ranges: of each layer's input, output and residual.
        rounder: of the weights.
        method: which of the ranges' limits.
        input_name: the placeholder.
        images: `(batch, height, width, 3)` float32.
        progress: called with the task, layers done and layers in all.

    Returns:
        Layer name to the lowest mean cosine that any output has, with this layer alone in eight bits.
    """
    loaded = tf.Graph()
    with loaded.as_default():
        tf.graph_util.import_graph_def(with_switches(graph, layers, ranges, rounder, method), name="")
    outputs = [f"{output}:0" for output in graph.outputs]
    found: dict[str, float] = {}
    with tf.compat.v1.Session(graph=loaded) as session:
        expected = session.run(outputs, {f"{input_name}:0": images, f"{SWITCH}:0": -1})
        for number, layer in enumerate(layers):
            received = session.run(outputs, {f"{input_name}:0": images, f"{SWITCH}:0": number})
            found[layer.name] = min(float(cosines(a, b).mean()) for a, b in zip(expected, received, strict=True))
            progress("sensitivity", number + 1, len(layers))
    return found
