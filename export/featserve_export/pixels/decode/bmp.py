"""BMP: uncompressed files, read here."""

from __future__ import annotations

import tensorflow as tf

from ..checks import size_checks, text
from .file import ON_THE_CLIENT, RESEND, File, any_of, checked


def decode(file: File, max_pixels: int) -> tf.Tensor:
    """Uncompressed files of 1, 4, 8, 24 and 32 bits, read here: TensorFlow takes palette indices for gray levels."""
    header = file.little(14, 4)
    offset, colors = file.little(10, 4), file.little(46, 4)
    width, raw_height = file.little(18, 4), file.little(22, 4)
    # As Pillow has it: the top byte alone tells a file written from the top.
    from_top = raw_height >= 0xFF000000
    height = tf.where(from_top, (1 << 32) - raw_height, raw_height)
    bits, compression = file.little(28, 2), file.little(30, 4)
    stride = (width * bits + 31) // 32 * 4
    palette_at = 14 + header
    colors = tf.where((bits > 8) | (colors > 0), colors, tf.bitwise.left_shift(tf.constant(1, tf.int64), bits))
    # As Pillow has it: pixels said to start right behind the header start behind the palette.
    palette_end = palette_at + tf.where(bits > 8, tf.constant(0, tf.int64), 4 * colors)
    pixels_at = tf.where((offset > 0) & tf.not_equal(offset, palette_at), offset, palette_end)
    end = pixels_at + stride * height
    size = tf.cast(file.size, tf.int64)
    bits, data = checked(
        (bits, file.padded),
        [
            (
                any_of(header, (40, 52, 56, 108, 124)) & tf.equal(compression, 0) & any_of(bits, (1, 4, 8, 24, 32)),
                text(
                    "expected an uncompressed BMP of 1, 4, 8, 24 or 32 bits, received ",
                    bits,
                    " bits, compression ",
                    compression,
                    ", a header of ",
                    header,
                    f" bytes: {ON_THE_CLIENT}",
                ),
            ),
            *size_checks(height, width, max_pixels),
            (
                (bits > 8) | ((colors <= 256) & (palette_at + 4 * colors <= size)),
                text("expected a BMP palette of at most 256 colours, received ", colors, f": {ON_THE_CLIENT}"),
            ),
            (
                (end <= size) & (pixels_at >= palette_at),
                text("expected a BMP of at least ", end, " bytes, received ", size, f": {RESEND}"),
            ),
        ],
    )
    rows = tf.reshape(data[pixels_at:end], tf.stack([height, stride]))
    rows = tf.cond(from_top, lambda: rows, lambda: tf.reverse(rows, [0]))

    def true_color() -> tf.Tensor:
        pixels = tf.reshape(rows[:, : width * bits // 8], tf.stack([height, width, bits // 8]))
        return tf.reverse(pixels[:, :, :3], [2])

    def indexed() -> tf.Tensor:
        per_byte = 8 // bits
        shifts = tf.cast((per_byte - 1 - tf.range(per_byte)) * bits, tf.uint8)
        mask = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)
        indices = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[:, :, None], shifts), mask)
        indices = tf.reshape(indices, tf.stack([height, -1]))[:, :width]
        palette = tf.reshape(data[palette_at : palette_at + 4 * colors], [-1, 4])[:, 2::-1]
        # Pillow takes a palette of grays in order for no palette at all, whatever the bits.
        two = tf.equal(colors, 2)
        ramp = tf.cast(tf.range(colors) * tf.where(two, tf.constant(255, tf.int64), 1), tf.uint8)
        is_ramp = tf.reduce_all(tf.equal(palette, ramp[:, None]))
        largest = tf.cast(tf.reduce_max(indices), tf.int64)
        checks = [
            (
                largest < colors,
                text("expected indices into a BMP palette of ", colors, ", received ", largest, f": {RESEND}"),
            ),
            (
                ~is_ramp | tf.equal(bits, tf.where(two, tf.constant(1, tf.int64), 8)),
                text("expected a palette of colours for ", bits, f" bits, received ordered grays: {ON_THE_CLIENT}"),
            ),
        ]
        return tf.gather(palette, tf.cast(checked(indices, checks), tf.int32))

    return tf.cond(bits > 8, true_color, indexed)
