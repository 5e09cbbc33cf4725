"""Pillow's `Image.resize` as TensorFlow operations, equal to it pixel for pixel.

Reference: `src/libImaging/Resample.c` and `Geometry.c` of Pillow, `load_img` of `keras/src/utils/image_utils.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import PIL
import tensorflow as tf

from ..options import INTERPOLATIONS
from .apart import apart
from .filters import FILTERS, Filter, divide

# Pillow's fixed-point weights: 32 bits less 8 for the level and 2 for overshoot.
_WEIGHT_BITS = 22
# Of which the high and the low part are multiplied apart: products and sums of either are exact in float32.
_LOW_BITS = 8
_HIGH_UNIT = 2.0 ** (_LOW_BITS - _WEIGHT_BITS)
# So many low parts, each half of 1 << _LOW_BITS at most, times 255 stay below float32's 1 << 24.
_EXACT_TAPS = 514
# Neighbouring target lines that share a product: they need nearly the same source lines.
_TILE = 4
# So many levels, summed up and multiplied by their share in float32, round as Pillow's sum does.
_EXACT_EQUAL_TAPS = 160
# oneDNN keeps a quarter of a MiB for each shape of a product: sides that follow the image's are rounded up to these.
_WINDOW_STEP = 4
_ROW_STEP = 32
# A pass widens so many pixels at a time: more would leave the processor's caches and the allocator's free memory.
_BLOCK_ELEMENTS = 1 << 21
_MOST_ELEMENTS = 1 << 23
# Since 13.0 Pillow shrinks the height first where that is much cheaper. A pass rounds to whole levels: the order shows.
_MAY_START_VERTICALLY = int(PIL.__version__.partition(".")[0]) >= 13


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
            lines = tf.reshape(tf.gather(images, rows, axis=1), [-1, size[1], 3])
            # Single pixels are what GatherNd copies faster than Gather.
            places = tf.range(tf.shape(lines)[0])[:, None] * size[1] + columns
            picked = tf.gather_nd(tf.reshape(lines, [-1, 3]), places[:, :, None])
            return tf.reshape(picked, [-1, height, width, 3])
        vertical, horizontal = _Pass.plan(start, length, size, image_size, FILTERS[interpolation])
        if images.shape[0] == 1:
            return _resample(images[0], horizontal, vertical)[None]
        return tf.map_fn(lambda image: _resample(image, horizontal, vertical), images, parallel_iterations=8)

    # Whatever else a server has would round the products.
    with tf.device("/device:CPU:0"):
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
    step = divide(length, target)
    first = tf.cast(start, tf.float64) + step * 0.5
    positions = tf.cumsum(tf.concat([first[None], tf.fill([target - 1], step)], 0))
    return tf.minimum(tf.cast(positions, tf.int32), size - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pass:
    """One of Pillow's two passes: which source lines make up each target line, and with what weights."""

    target: int
    overshoots: bool
    source: tf.Tensor  # lines of the whole image, scalar int32
    begin: tf.Tensor  # the first of the lines that the target needs, scalar int32
    size: tf.Tensor  # how many these are, scalar int32
    windows: tf.Tensor  # (tiles, window) int32, the lines among them that each tile needs
    weights: tf.Tensor  # (tiles, 2 * _TILE, window) float32: their high parts, in levels, then their low ones
    shares: tf.Tensor | None  # (tiles, _TILE, 1) float32, where all lines weigh the same; `weights` then counts them
    exact: tf.Tensor  # bool, whether float32 holds all sums

    @classmethod
    def plan(
        cls, start: tf.Tensor, length: tf.Tensor, source: tf.Tensor, targets: tuple[int, int], resampling: Filter
    ) -> tuple[_Pass, _Pass]:
        """Plans both passes at once, vertical and horizontal: few large operations cost less than many small ones.

        Args:
            start: `(2,)` int32, where the box that is resized begins.
            length: `(2,)` int32, its lines.
            source: `(2,)` int32, the image's lines.
            targets: lines of the result.
            resampling: the filter.
        """
        shape = (2, _tiles(max(targets)), _TILE)
        numbers = np.arange(np.prod(shape[1:]), dtype=np.float64).reshape(shape[1:])
        numbers = np.minimum(numbers, np.array(targets)[:, None, None] - 1.0)
        scale = divide(length, targets)[:, None, None]
        stretch = tf.maximum(scale, 1.0)
        support = resampling.support * stretch
        centers = tf.ensure_shape(tf.cast(start, tf.float64)[:, None, None] + (numbers + 0.5) * scale, shape)
        lower = tf.maximum(tf.cast(centers - support + 0.5, tf.int32), 0)
        upper = tf.minimum(tf.cast(centers + support + 0.5, tf.int32), source[:, None, None])
        first, last = lower[:, :, 0], upper[:, :, -1]
        begin, end = first[:, :1], last[:, -1:]
        window = tf.reduce_max(last - first, axis=1, keepdims=True)
        window = tf.minimum(_rounded_up(window, _WINDOW_STEP), end - begin)
        windows = tf.minimum(first, end - window)[..., None] + tf.range(tf.reduce_max(window))

        lines = windows[:, :, None]
        distance = (tf.cast(lines, tf.float64) - centers[..., None] + 0.5) * (1.0 / stretch)[..., None]
        # A line outside of a target's own is of a neighbour's in the tile.
        own = (lines >= lower[..., None]) & (lines < upper[..., None])
        weights = resampling.weigh(distance) * tf.cast(own, tf.float64)
        total = tf.reduce_sum(weights, axis=3, keepdims=True)
        weights = tf.math.divide_no_nan(weights, total) * float(1 << _WEIGHT_BITS)
        weights = tf.cast(tf.cast(weights + tf.sign(weights) * 0.5, tf.int32), tf.float32)
        if resampling.equal:
            shares = tf.reduce_max(weights, axis=3, keepdims=True) * 2.0**-_WEIGHT_BITS
            weights = tf.sign(weights)
        else:
            parts = weights * 2.0**-_LOW_BITS
            high = tf.round(parts)
            weights = tf.concat([high * _HIGH_UNIT, parts - high], 2)

        def of(axis: int) -> _Pass:
            tiles = _tiles(targets[axis])
            return cls(
                target=targets[axis],
                overshoots=resampling.overshoots,
                source=source[axis],
                begin=begin[axis, 0],
                size=(end - begin)[axis, 0],
                windows=(windows - begin[..., None])[axis, :tiles, : window[axis, 0]],
                weights=weights[axis, :tiles, :, : window[axis, 0]],
                shares=shares[axis, :tiles] if resampling.equal else None,
                exact=tf.reduce_max(upper - lower) <= (_EXACT_EQUAL_TAPS if resampling.equal else _EXACT_TAPS),
            )

        return of(0), of(1)

    def __call__(self, lines: tf.Tensor) -> tf.Tensor:
        """Maps `(size, elements)` uint8 to `(target, elements)` uint8."""
        resized = tf.cond(
            self.fits(tf.shape(lines)[1], _MOST_ELEMENTS),
            lambda: _in_float32_apart(lines, self.windows, self.weights, self.shares, self.overshoots),
            lambda: _in_float64(lines, self.windows, self.weights, self.shares, self.overshoots),
        )
        return resized[: self.target]

    @property
    def widest(self) -> tf.Tensor:
        """Numbers that the tiles' windows, or their products, take for one element of a line."""
        return tf.maximum(tf.size(self.windows), 2 * _TILE * _tiles(self.target))

    def fits(self, elements: tf.Tensor, most: int) -> tf.Tensor:
        """Whether `at_once` is exact, and holds at most so many numbers for lines of so many elements."""
        return self.exact & (elements <= most // self.widest)

    def at_once(self, lines: tf.Tensor) -> tf.Tensor:
        """The same of lines that fit."""
        return _in_float32(lines, self.windows, self.weights, self.shares, self.overshoots)[: self.target]


def _in_float32(
    lines: tf.Tensor, windows: tf.Tensor, weights: tf.Tensor, shares: tf.Tensor | None, overshoots: bool
) -> tf.Tensor:
    sources = tf.cast(tf.gather(lines, windows), tf.float32)
    if shares is None:
        high, low = tf.split(tf.matmul(weights, sources), 2, axis=1)
        sums = high + (tf.floor(low) * _HIGH_UNIT + 0.5)
    else:
        sums = tf.matmul(weights, sources) * shares + 0.5
    return tf.reshape(_levels(sums, overshoots), [-1, tf.shape(lines)[1]])


_in_float32_apart = apart(_in_float32)


@apart
def _in_float64(
    lines: tf.Tensor, windows: tf.Tensor, weights: tf.Tensor, shares: tf.Tensor | None, overshoots: bool
) -> tf.Tensor:
    """The same of any number of lines, one tile after the other."""
    exact = tf.cast(weights, tf.float64)
    if shares is None:
        high, low = tf.split(exact, 2, axis=1)
        exact = high + low * _HIGH_UNIT
    else:
        exact *= tf.cast(shares, tf.float64)

    def tile(window_and_weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        window, factors = window_and_weights
        return _levels(tf.matmul(factors, tf.cast(tf.gather(lines, window), tf.float64)) + 0.5, overshoots)

    tiles = tf.map_fn(
        tile,
        (windows, exact),
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec((_TILE, None), tf.uint8),
    )
    return tf.reshape(tiles, [-1, tf.shape(lines)[1]])


def _levels(sums: tf.Tensor, overshoots: bool) -> tf.Tensor:
    if overshoots:
        sums = tf.minimum(tf.maximum(sums, 0.0), 255.0)
    return tf.cast(sums, tf.uint8)


def _resample(image: tf.Tensor, horizontal: _Pass, vertical: _Pass) -> tf.Tensor:
    """Resizes `(H, W, 3)` uint8 in Pillow's two passes, in Pillow's order."""
    image = tf.slice(image, [vertical.begin, horizontal.begin, 0], [vertical.size, horizontal.size, 3])
    rows = tf.reshape(image, [vertical.size, horizontal.size * 3])
    if _MAY_START_VERTICALLY:
        surplus_height = vertical.source - vertical.target
        surplus_width = horizontal.source - horizontal.target
        starts_vertically = (surplus_height > 0) & (surplus_height > 2 * surplus_width)
    else:
        starts_vertically = tf.constant(False)

    def at_once() -> tf.Tensor:
        return vertical.at_once(_across(rows, horizontal, horizontal.at_once))

    def in_blocks() -> tf.Tensor:
        return tf.cond(
            starts_vertically,
            lambda: _across_in_blocks(vertical(rows), horizontal),
            lambda: vertical(_across_in_blocks(rows, horizontal)),
        )

    fits = horizontal.fits(3 * _rounded_up(vertical.size, _ROW_STEP), _BLOCK_ELEMENTS) & vertical.fits(
        3 * horizontal.target, _MOST_ELEMENTS
    )
    resized = tf.cond(fits & ~starts_vertically, at_once, in_blocks)
    return tf.reshape(resized, [vertical.target, horizontal.target, 3])


def _across(rows: tf.Tensor, resize: _Pass, apply: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Maps `(H, 3 * size)` uint8 to `(H, 3 * target)` uint8, and some rows of zeros below them."""
    height = tf.shape(rows)[0]
    # Concat copies whole rows, Pad one level after the other.
    below = tf.zeros([_rounded_up(height, _ROW_STEP) - height, 3 * resize.size], tf.uint8)
    rows = tf.concat([rows, below], 0)
    columns = apply(tf.reshape(tf.transpose(rows), [resize.size, -1]))
    return tf.transpose(tf.reshape(columns, [3 * resize.target, -1]))


def _tiles(target: int) -> int:
    return -(-target // _TILE)


def _rounded_up(number: tf.Tensor, step: int) -> tf.Tensor:
    return (number + step - 1) // step * step


def _across_in_blocks(rows: tf.Tensor, resize: _Pass) -> tf.Tensor:
    """The same of any number of rows, a block after the other."""
    height = tf.shape(rows)[0]
    most = tf.maximum(_BLOCK_ELEMENTS // (3 * resize.widest) // _ROW_STEP, 1) * _ROW_STEP
    count = (height + most - 1) // most

    def block(index: tf.Tensor, results: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        some = rows[index * most : (index + 1) * most]
        return index + 1, results.write(index, _across(some, resize, resize)[: tf.shape(some)[0]])

    results = tf.TensorArray(tf.uint8, size=count, infer_shape=False, element_shape=(None, 3 * resize.target))
    _, results = tf.while_loop(lambda index, _: index < count, block, (tf.constant(0), results), parallel_iterations=1)
    return results.concat()
