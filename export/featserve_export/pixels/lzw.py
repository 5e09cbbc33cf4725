"""Whether the compressed data of a GIF hold codes that mean nothing yet, which giflib takes for some other.

Reference: `src/libImaging/GifDecode.c` of Pillow.
"""

from __future__ import annotations

import tensorflow as tf

_MAX_BITS = 12
_TABLE = 1 << _MAX_BITS
# Codes that are looked at together: a full table's worth.
_STRETCH = _TABLE
# A stretch ends at a reset of the table. Encoders that never compress reset it every hundred bytes or so.
_BASE_STRETCHES = 2000
_BYTES_PER_STRETCH = 4096


def codes_make_sense(data: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Checks each code up to the end code against the table that the codes before it have made.

    Args:
        data: `(bytes,)` uint8, the sub-blocks of one picture, joined.
        bits: the picture's minimum code size, scalar int32, 2 to 8.

    Returns:
        Scalar bool; false too where the table is reset more often than any encoder does.
    """
    data = tf.cast(tf.concat([data, tf.zeros([4], tf.uint8)], 0), tf.int32)
    total = 8 * (tf.size(data) - 4)
    clear = tf.bitwise.left_shift(1, bits)
    # By code number since the last reset: the largest code that means something, and how many bits a code has.
    numbers = tf.range(2 * _STRETCH)
    largest = tf.where(numbers > 0, tf.minimum(clear + 1 + numbers, _TABLE), clear)
    powers = tf.constant([1 << power for power in range(_MAX_BITS)])
    widths = tf.searchsorted(powers, tf.minimum(largest, _TABLE - 1), side="right")
    widths = tf.where(numbers > 1, widths, bits + 1)

    def step(steps, bit, number, sound, going):  # type: ignore[no-untyped-def]
        width = tf.slice(widths, [number], [_STRETCH])
        ends = bit + tf.cumsum(width)
        starts = ends - width
        byte = tf.minimum(starts // 8, tf.size(data) - 3)
        low, middle, high = (tf.gather(data, byte + offset) for offset in range(3))
        code = tf.bitwise.right_shift(low + middle * 256 + high * 65536, starts % 8)
        code = tf.bitwise.bitwise_and(code, tf.bitwise.left_shift(1, width) - 1)
        stops = (ends > total) | tf.equal(code, clear) | tf.equal(code, clear + 1)
        stop = tf.argmax(tf.concat([stops, [True]], 0), output_type=tf.int32)
        known = code <= tf.slice(largest, [number], [_STRETCH])
        sound &= tf.reduce_all(known | (tf.range(_STRETCH) >= stop))
        full = tf.equal(stop, _STRETCH)
        last = tf.minimum(stop, _STRETCH - 1)
        reset = ~full & (ends[last] <= total) & tf.equal(code[last], clear)
        return steps + 1, ends[last], tf.where(full, _STRETCH, 0), sound, sound & (full | reset)

    most = _BASE_STRETCHES + tf.size(data) // _BYTES_PER_STRETCH
    zero = tf.constant(0)
    _, _, _, sound, going = tf.while_loop(
        lambda steps, bit, number, sound, going: going & (steps < most),
        step,
        (zero, zero, zero, tf.constant(True), tf.constant(True)),
        parallel_iterations=1,
    )
    return sound & ~going
