"""The CRC-32 of PNG and zlib as TensorFlow operations."""

from __future__ import annotations

import tensorflow as tf

_POLYNOMIAL = 0xEDB88320


def _byte_remainders() -> list[int]:
    remainders = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        remainders.append(value)
    return remainders


_BYTE_REMAINDERS = _byte_remainders()


def crc32(data: tf.Tensor) -> tf.Tensor:
    """Computes `zlib.crc32` in as many steps as the length has bits, instead of one a byte.

    The remainder of two pieces in a row is that of the first, moved past the second, exclusive-or that of the second:
    neighbours are merged pair by pair, and the table that moves past one piece, applied to itself, moves past two.

    Args:
        data: at least 4 bytes, uint8.

    Returns:
        Scalar uint32.
    """
    bytes_ = tf.concat([255 - data[:4], data[4:]], 0)
    remainders = tf.gather(tf.constant(_BYTE_REMAINDERS, tf.uint32), tf.cast(bytes_, tf.int32))
    table = tf.constant(
        [
            [value << 8 * place >> 8 ^ _BYTE_REMAINDERS[value << 8 * place & 0xFF] for value in range(256)]
            for place in range(4)
        ],
        tf.uint32,
    )

    def merge(remainders: tf.Tensor, table: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Zeros in front leave a remainder as it is.
        remainders = tf.pad(remainders, [[tf.size(remainders) % 2, 0]])
        merged = tf.bitwise.bitwise_xor(_move(remainders[0::2], table), remainders[1::2])
        return merged, _move(table, table)

    merged, _ = tf.while_loop(
        lambda remainders, _: tf.size(remainders) > 1,
        merge,
        (remainders, table),
        shape_invariants=(tf.TensorShape([None]), tf.TensorShape([4, 256])),
        parallel_iterations=1,
    )
    return tf.bitwise.invert(merged[0])


def _move(remainders: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    moved = tf.zeros_like(remainders)
    for place in range(4):
        digits = tf.bitwise.right_shift(remainders, tf.constant(8 * place, tf.uint32))
        digits = tf.cast(tf.bitwise.bitwise_and(digits, tf.constant(255, tf.uint32)), tf.int32)
        moved = tf.bitwise.bitwise_xor(moved, tf.gather(table[place], digits))
    return moved
