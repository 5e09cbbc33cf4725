"""Measures what values each tensor takes on calibration photos, and where to cut its range.

An eight-bit tensor holds `round((x + offset) * 255 / limit)`: `limit` is how wide a range is kept, `offset` puts the
middle of each channel into its middle, so that a channel narrower than the others has room for what calibration did not
see. Both are frozen in the graph, so a result does not depend on what it was batched with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from ..progress import Progress, silent
from .graph import Array

METHODS = ("min-max", "percentile", "mean-squared-error")
LEVELS = 255
_BINS = 2048
_KEPT_SHARE = 0.9999


@dataclass(frozen=True, kw_only=True)
class Range:
    """The range of a tensor's values.

    Attributes:
        middle: `(channels,)`, halfway between the extremes of each channel; None where nothing is negative, as behind a
            ReLU.
        channels: how many there are.
        limits: method to the width of the range that it keeps.
    """

    middle: Array | None
    channels: int
    limits: dict[str, float]

    def offset(self, limit: Array) -> Array:
        """The summand of each channel, `(channels,)`, that brings it to 0..limit; 0 where nothing is negative."""
        offset: Array = np.zeros_like(limit) if self.middle is None else limit / np.float32(2) - self.middle
        return offset


def calibrate(
    graph_def: graph_pb2.GraphDef,
    input_name: str,
    tensors: Sequence[str],
    batches: Sequence[Array],
    progress: Progress = silent,
) -> dict[str, Range]:
    """Runs the float graph over photos, twice: for the extremes, then for the histogram between them.

    Args:
        graph_def: frozen.
        input_name: the placeholder.
        tensors: what to observe; the last dimension counts channels.
        batches: each `(batch, height, width, 3)` float32, what the placeholder takes.
        progress: called with the task, batches done and batches in all.

    Returns:
        A range for each tensor.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
        source = graph.get_tensor_by_name(f"{input_name}:0")
        values = {name: graph.get_tensor_by_name(name if ":" in name else f"{name}:0") for name in tensors}
        lows = {name: _per_channel(tf.reduce_min, value) for name, value in values.items()}
        highs = {name: _per_channel(tf.reduce_max, value) for name, value in values.items()}
        middles = {name: tf.compat.v1.placeholder(tf.float32, value.shape[-1:]) for name, value in values.items()}
        tops = {name: tf.compat.v1.placeholder(tf.float32, ()) for name in values}
        counts = {
            name: tf.histogram_fixed_width(tf.abs(value - middles[name]), [0.0, tops[name]], _BINS)
            for name, value in values.items()
        }
    with tf.compat.v1.Session(graph=graph) as session:
        low: dict[str, Array] = {}
        high: dict[str, Array] = {}
        for index, batch in enumerate(batches):
            new_low, new_high = session.run((lows, highs), {source: batch})
            low = {name: np.minimum(low.get(name, value), value) for name, value in new_low.items()}
            high = {name: np.maximum(high.get(name, value), value) for name, value in new_high.items()}
            progress("ranges", index + 1, 2 * len(batches))
        signed = {name: bool((value < 0).any()) for name, value in low.items()}
        middle: dict[str, Array] = {
            name: (low[name] + high[name]) / np.float32(2) if signed[name] else np.zeros_like(low[name])
            for name in values
        }
        top = {name: float((high[name] - middle[name]).max()) or 1.0 for name in values}
        feed = {middles[name]: middle[name] for name in values} | {tops[name]: top[name] for name in values}
        totals = {name: np.zeros(_BINS, np.int64) for name in values}
        for index, batch in enumerate(batches):
            for name, count in session.run(counts, {source: batch, **feed}).items():
                totals[name] += count
            progress("ranges", len(batches) + index + 1, 2 * len(batches))
    return {
        name: Range(
            middle=middle[name] if signed[name] else None,
            channels=len(middle[name]),
            limits={
                method: (2 if signed[name] else 1) * limit
                for method, limit in zip(METHODS, _limits(totals[name], top[name]), strict=True)
            },
        )
        for name in values
    }


def _per_channel(reduce: Callable[..., tf.Tensor], value: tf.Tensor) -> tf.Tensor:
    return reduce(value, axis=list(range(value.shape.rank - 1)))


def _limits(counts: npt.NDArray[np.int64], top: float) -> tuple[float, float, float]:
    """The largest distance from the middle that each of `METHODS` keeps, from a histogram over 0..top."""
    edges = np.linspace(0, top, _BINS + 1)[1:]
    kept = np.cumsum(counts) / counts.sum()
    percentile = float(edges[np.searchsorted(kept, _KEPT_SHARE)])
    centers = edges - top / _BINS / 2
    # Zeros of a ReLU cost nothing at any scale.
    weights = np.where(np.arange(_BINS) == 0, 0, counts)
    errors = []
    candidates = edges[_BINS // 4 - 1 :: _BINS // 64]
    for limit in candidates:
        step = limit / LEVELS
        errors.append(np.sum(weights * np.where(centers > limit, (centers - limit) ** 2, step * step / 12)))
    return top, percentile, float(candidates[int(np.argmin(errors))])
