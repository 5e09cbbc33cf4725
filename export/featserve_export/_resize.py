"""Pillow's `Image.resize` as TensorFlow operations, equal to it pixel for pixel.

Reference: `src/libImaging/Resample.c` and `Geometry.c` of Pillow, `load_img` of `keras/src/utils/image_utils.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import PIL
import tensorflow as tf

# Pillow's fixed-point weights: 32 bits less 8 for the level and 2 for overshoot.
_WEIGHT_BITS = 22
# A pass widens pixels to float64 a block at a time, so that an 8,000-pixel image needs no gigabyte.
_BLOCK_ELEMENTS = 1 << 20
_TILE = 8
# Since 13.0 Pillow shrinks the height first where that is much cheaper. A pass rounds to whole levels: the order shows.
_MAY_START_VERTICALLY = int(PIL.__version__.partition(".")[0]) >= 13


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Filter:
    weigh: Callable[[tf.Tensor], tf.Tensor]
    support: float


def _box(x: tf.Tensor) -> tf.Tensor:
    return tf.cast((x > -0.5) & (x <= 0.5), tf.float64)


def _bilinear(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1.0 - tf.abs(x), 0.0)


def _hamming(x: tf.Tensor) -> tf.Tensor:
    x = tf.abs(x)
    # Pillow writes these two constants in single precision.
    window = float(np.float32(0.54)) + float(np.float32(0.46)) * tf.cos(x * math.pi)
    return tf.where(x < 1.0, _sinc(x) * window, 0.0)


def _bicubic(x: tf.Tensor) -> tf.Tensor:
    a = -0.5
    x = tf.abs(x)
    inner = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    outer = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return tf.where(x < 1.0, inner, tf.where(x < 2.0, outer, 0.0))


def _lanczos(x: tf.Tensor) -> tf.Tensor:
    return tf.where((x >= -3.0) & (x < 3.0), _sinc(x) * _sinc(_divide(x, 3)), 0.0)


def _divide(numerator: tf.Tensor, denominator: int) -> tf.Tensor:
    # Grappler turns a division by a constant into a product with its reciprocal, which rounds otherwise.
    runtime_denominator = tf.compat.v1.placeholder_with_default(tf.constant(denominator, tf.float64), shape=())
    return tf.cast(numerator, tf.float64) / runtime_denominator


def _sinc(x: tf.Tensor) -> tf.Tensor:
    angle = x * math.pi
    return tf.where(tf.equal(x, 0.0), tf.ones_like(x), tf.math.divide_no_nan(tf.sin(angle), angle))


_FILTERS = {
    "bicubic": _Filter(weigh=_bicubic, support=2.0),
    "bilinear": _Filter(weigh=_bilinear, support=1.0),
    "box": _Filter(weigh=_box, support=0.5),
    "hamming": _Filter(weigh=_hamming, support=1.0),
    "lanczos": _Filter(weigh=_lanczos, support=3.0),
}

#: The interpolations of `keras.utils.load_img`.
INTERPOLATIONS: tuple[str, ...] = tuple(sorted([*_FILTERS, "nearest"]))


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def resize_images(
    images: tf.Tensor, *, image_size: tuple[int, int], interpolation: str, crop_to_aspect_ratio: bool
) -> tf.Tensor:
    """Resizes a batch as `keras.utils.load_img(target_size=image_size, ...)` resizes each image.

    Args:
        images: `(N, H, W, 3)` uint8.
        image_size: `(height, width)` of the result.
        interpolation: one of `INTERPOLATIONS`.
        crop_to_aspect_ratio: cuts the centre to the result's aspect ratio first, as `keep_aspect_ratio=True` does.

    Returns:
        `(N, height, width, 3)` uint8.

    Raises:
        ValueError: `interpolation` is not one of `INTERPOLATIONS`.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"expected interpolation to be one of {', '.join(INTERPOLATIONS)}, received {interpolation!r}")
    height, width = image_size
    size = tf.shape(images)[1:3]

    def resize() -> tf.Tensor:
        start, length = _crop(size, image_size) if crop_to_aspect_ratio else (tf.zeros_like(size), size)
        if interpolation == "nearest":
            rows = _nearest(start[0], length[0], size[0], height)
            columns = _nearest(start[1], length[1], size[1], width)
            return tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)
        resampling = _FILTERS[interpolation]
        vertical = _Pass.plan(start[0], length[0], size[0], height, resampling)
        horizontal = _Pass.plan(start[1], length[1], size[1], width, resampling)
        return _resample(images, horizontal, vertical)

    resized = tf.cond(tf.reduce_all(tf.equal(size, [height, width])), lambda: images, resize)
    return tf.ensure_shape(resized, (None, height, width, 3))


def _crop(size: tf.Tensor, image_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Start and length, `(vertical, horizontal)`, of the largest centred box of the target's aspect ratio."""
    target_height, target_width = image_size
    height, width = tf.unstack(tf.cast(size, tf.int64))
    length = tf.stack(
        [
            tf.minimum(height, width * target_height // target_width),
            tf.minimum(width, height * target_width // target_height),
        ]
    )
    start = (tf.stack([height, width]) - length) // 2
    return tf.cast(start, tf.int32), tf.cast(length, tf.int32)


def _nearest(start: tf.Tensor, length: tf.Tensor, size: tf.Tensor, target: int) -> tf.Tensor:
    # Pillow adds the step up instead of multiplying: the rounding of each sum decides which pixel is picked.
    step = _divide(length, target)
    first = tf.cast(start, tf.float64) + step * 0.5
    positions = tf.cumsum(tf.concat([first[None], tf.fill([target - 1], step)], 0))
    return tf.minimum(tf.cast(positions, tf.int32), size - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pass:
    """One of Pillow's two passes: which source lines make up each target line, and with what weights.

    Products and sums are of few enough bits to be exact in float64, in any order; matrices of integers multiply slowly.
    """

    target: int
    size: tf.Tensor  # source lines, scalar int32
    lower: tf.Tensor  # (target, padded to whole tiles) int32, the first source line of each
    weights: tf.Tensor  # (the same, taps) float64, multiples of 2**-22

    @classmethod
    def plan(cls, start: tf.Tensor, length: tf.Tensor, size: tf.Tensor, target: int, resampling: _Filter) -> _Pass:
        scale = _divide(length, target)
        stretch = tf.maximum(scale, 1.0)
        support = resampling.support * stretch
        taps = tf.cast(tf.math.ceil(support), tf.int32) * 2 + 1
        padded = -(-target // _TILE) * _TILE
        numbers = tf.minimum(tf.range(padded, dtype=tf.float64), target - 1.0)
        centers = tf.cast(start, tf.float64) + (numbers + 0.5) * scale
        lower = tf.maximum(tf.cast(centers - support + 0.5, tf.int32), 0)
        upper = tf.minimum(tf.cast(centers + support + 0.5, tf.int32), size)
        lines = lower[:, None] + tf.range(taps)[None, :]
        distance = (tf.cast(lines, tf.float64) - centers[:, None] + 0.5) * (1.0 / stretch)
        weights = tf.where(lines < upper[:, None], resampling.weigh(distance), 0.0)
        total = tf.reduce_sum(weights, axis=1, keepdims=True)
        weights = tf.math.divide_no_nan(weights, total) * float(1 << _WEIGHT_BITS)
        rounded = tf.cast(weights + tf.where(weights < 0.0, tf.constant(-0.5, tf.float64), 0.5), tf.int32)
        return cls(
            target=target,
            size=size,
            lower=tf.ensure_shape(lower, [padded]),
            weights=tf.cast(rounded, tf.float64) * 2.0**-_WEIGHT_BITS,
        )

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        """Maps `(source lines, elements)` uint8 to `(target lines, elements)` uint8.

        A few neighbouring target lines share a tile: they need nearly the same source lines, so that a small dense
        product wastes little on zeros.
        """
        lower = tf.reshape(self.lower, [-1, _TILE])
        offsets = lower - lower[:, :1]
        taps = tf.shape(self.weights)[1]
        band = tf.reduce_max(offsets) + taps
        tap = tf.range(band) - tf.reshape(offsets, [-1, 1])
        spread = tf.gather(self.weights, tf.clip_by_value(tap, 0, taps - 1), batch_dims=1)
        spread = tf.where((tap >= 0) & (tap < taps), spread, tf.constant(0.0, tf.float64))
        matrices = tf.reshape(spread, [-1, _TILE, band])
        lines = tf.minimum(lower[:, :1] + tf.range(band), self.size - 1)

        def block(start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
            sources = tf.cast(tf.gather(image, lines[start:end]), tf.float64)
            return tf.reshape(_levels(tf.matmul(matrices[start:end], sources)), [-1, tf.shape(image)[1]])

        elements = tf.cast(band, tf.int64) * tf.shape(image, tf.int64)[1]
        share = tf.minimum(_BLOCK_ELEMENTS // tf.maximum(elements, 1), lower.shape[0])
        return _in_blocks(block, tf.constant(lower.shape[0]), tf.cast(share, tf.int32))[: self.target]


def _levels(sums: tf.Tensor) -> tf.Tensor:
    zero, top = tf.constant(0.0, tf.float64), tf.constant(255.0, tf.float64)
    return tf.cast(tf.raw_ops.ClipByValue(t=sums, clip_value_min=zero, clip_value_max=top) + 0.5, tf.uint8)


def _in_blocks(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], total: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """Joins `function(start, end)` of consecutive stretches of `total` lines, `block` lines each."""
    block = tf.clip_by_value(block, 1, total)

    def in_turn() -> tf.Tensor:
        count = (total + block - 1) // block
        results = tf.TensorArray(tf.uint8, size=count, infer_shape=False, element_shape=(None, None))
        _, results = tf.while_loop(
            lambda index, _: index < count,
            lambda index, results: (
                index + 1,
                results.write(index, function(index * block, tf.minimum(total, (index + 1) * block))),
            ),
            (tf.constant(0), results),
            parallel_iterations=1,
        )
        return results.concat()

    return tf.cond(tf.equal(block, total), lambda: function(tf.constant(0), total), in_turn)


def _resample(images: tf.Tensor, horizontal: _Pass, vertical: _Pass) -> tf.Tensor:
    """Resizes `(N, H, W, 3)` uint8 in Pillow's two passes, in Pillow's order."""

    def resize_width(images: tf.Tensor) -> tf.Tensor:
        return _along(2, horizontal, images)

    def resize_height(images: tf.Tensor) -> tf.Tensor:
        return _along(1, vertical, images)

    if not _MAY_START_VERTICALLY:
        return resize_height(resize_width(images))
    surplus_height = vertical.size - vertical.target
    surplus_width = horizontal.size - horizontal.target
    return tf.cond(
        (surplus_height > 0) & (surplus_height > 2 * surplus_width),
        lambda: resize_width(resize_height(images)),
        lambda: resize_height(resize_width(images)),
    )


def _along(axis: int, resize: _Pass, images: tf.Tensor) -> tf.Tensor:
    order = [axis, *(other for other in range(4) if other != axis)]
    rows = tf.transpose(images, order)
    shape = tf.shape(rows)
    resized = resize(tf.reshape(rows, [shape[0], -1]))
    back = [order.index(place) for place in range(4)]
    return tf.transpose(tf.reshape(resized, tf.concat([[resize.target], shape[1:]], 0)), back)
