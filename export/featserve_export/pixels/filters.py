"""Pillow's resampling filters.

Reference: `src/libImaging/Resample.c` of Pillow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """What a source pixel weighs by its distance from the target's centre.

    Attributes:
        weigh: float64 distances, in target pixels where the image shrinks, to float64 weights.
        support: the distance from which on weights are zero.
        overshoots: whether weights can be negative, and sums leave the levels.
        equal: whether all weights of a target line are the same, or zero.
    """

    weigh: Callable[[tf.Tensor], tf.Tensor]
    support: float
    overshoots: bool = False
    equal: bool = False


def _box(x: tf.Tensor) -> tf.Tensor:
    return tf.cast((x > -0.5) & (x <= 0.5), tf.float64)


def _bilinear(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1.0 - tf.abs(x), 0.0)


def _hamming(x: tf.Tensor) -> tf.Tensor:
    x = tf.abs(x)
    # Pillow writes these two constants in single precision.
    window = float(np.float32(0.54)) + float(np.float32(0.46)) * tf.cos(x * math.pi)
    return _sinc(x) * window * tf.cast(x < 1.0, tf.float64)


def _bicubic(x: tf.Tensor) -> tf.Tensor:
    a = -0.5
    x = tf.abs(x)
    inner = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    outer = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return tf.where(x < 1.0, inner, outer * tf.cast(x < 2.0, tf.float64))


def _lanczos(x: tf.Tensor) -> tf.Tensor:
    return _sinc(x) * _sinc(divide(x, 3)) * tf.cast((x >= -3.0) & (x < 3.0), tf.float64)


def divide(numerator: tf.Tensor, denominator: int | Sequence[int]) -> tf.Tensor:
    """Returns the float64 quotient, rounded once."""
    # Grappler turns a division by a constant into a product with its reciprocal, which rounds otherwise.
    runtime_denominator = tf.compat.v1.placeholder_with_default(
        tf.constant(denominator, tf.float64), shape=np.shape(denominator)
    )
    return tf.cast(numerator, tf.float64) / runtime_denominator


def _sinc(x: tf.Tensor) -> tf.Tensor:
    angle = x * math.pi
    return tf.where(tf.equal(x, 0.0), tf.ones_like(x), tf.math.divide_no_nan(tf.sin(angle), angle))


FILTERS = {
    "bicubic": Filter(weigh=_bicubic, support=2.0, overshoots=True),
    "bilinear": Filter(weigh=_bilinear, support=1.0),
    "box": Filter(weigh=_box, support=0.5, equal=True),
    "hamming": Filter(weigh=_hamming, support=1.0),
    "lanczos": Filter(weigh=_lanczos, support=3.0, overshoots=True),
}
