"""GIF: the first picture, cut out of the file."""

from __future__ import annotations

import tensorflow as tf

from ..checks import size_checks, text
from ..lzw import codes_make_sense
from .file import ON_THE_CLIENT, RESEND, File, any_of, checked


def decode(file: File, max_pixels: int) -> tf.Tensor:
    """Keeps the first picture: TensorFlow would decode all of them, and lay out a canvas for the largest."""
    head = 13 + _color_table_size(file.read(10, 1)[0])
    at, image, end, blocks = _walk(file, head)
    bits = file.read(image + 10 + _color_table_size(file.read(image + 9, 1)[0]), 1)[0]
    width, height = file.little(6, 2), file.little(8, 2)
    left, top = file.little(image + 1, 2), file.little(image + 3, 2)
    frame_width, frame_height = file.little(image + 5, 2), file.little(image + 7, 2)
    contents = checked(
        tf.strings.join([file.cut(0, head), file.cut(image, end), b";"]),
        [
            (
                (image > 0) & (end > image),
                text("expected a whole GIF, received one that breaks at byte ", at, f": {RESEND}"),
            ),
            *size_checks(height, width, max_pixels),
            (
                any_of(bits, range(2, 9)) & codes_make_sense(_joined(file, blocks), tf.clip_by_value(bits, 2, 8)),
                text(f"expected a GIF whose pixels decompress, received one that does not: {RESEND}"),
            ),
            (
                tf.equal(left + top, 0) & tf.equal(frame_width, width) & tf.equal(frame_height, height),
                text(
                    "expected a GIF whose first picture fills its canvas of ",
                    width,
                    "x",
                    height,
                    ", received one of ",
                    frame_width,
                    "x",
                    frame_height,
                    " at ",
                    left,
                    ",",
                    top,
                    f": {ON_THE_CLIENT}",
                ),
            ),
        ],
    )
    return tf.io.decode_gif(contents)[0]


def _joined(file: File, blocks: tf.Tensor) -> tf.Tensor:
    """The bytes of sub-blocks, which each start with their length."""
    lengths = tf.cast(tf.gather(file.padded, blocks), tf.int32)
    before = tf.cumsum(lengths, exclusive=True)
    total = tf.reduce_sum(lengths)
    return tf.gather(file.padded, tf.range(total) + tf.repeat(blocks + 1 - before, lengths))


def _color_table_size(flags: tf.Tensor) -> tf.Tensor:
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7)), 0)


def _walk(file: File, head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the first picture and where its sub-blocks start.

    `at` is where the walk ended, `end` is 0 where the file breaks off.
    """
    max_steps = 64 + file.size // 128

    def step(steps, at, image, inside, end, blocks, going):  # type: ignore[no-untyped-def]
        kind, *rest = file.read(at, 10)
        is_image = ~inside & tf.equal(kind, 0x2C)
        is_extension = ~inside & tf.equal(kind, 0x21)
        is_last = inside & tf.equal(kind, 0)
        done = is_last & (image > 0)
        advance = tf.where(is_image, 11 + _color_table_size(rest[8]), tf.where(is_extension, 2, 1 + kind))
        # Pillow reads past an extension that starts with an empty block.
        known = is_image | (is_extension & (rest[1] > 0)) | inside
        sound = known & (at + advance <= file.size)
        return (
            steps + 1,
            tf.where(sound, at + advance, at),
            tf.where(is_image & sound, at, image),
            is_image | is_extension | (inside & ~is_last),
            tf.where(done & sound, at + 1, end),
            blocks.write(steps, tf.where(inside & sound & (image > 0), at, 0)),
            sound & ~done,
        )

    def going(steps, at, image, inside, end, blocks, going):  # type: ignore[no-untyped-def]
        del at, image, inside, end, blocks
        return going & (steps < max_steps)

    zero = tf.constant(0)
    blocks = tf.TensorArray(tf.int32, size=max_steps, element_shape=())
    steps, at, image, _, end, blocks, _ = tf.while_loop(
        going, step, (zero, head, zero, tf.constant(False), zero, blocks, tf.constant(True)), parallel_iterations=1
    )
    starts = blocks.stack()[:steps]
    return at, image, end, tf.boolean_mask(starts, starts > 0)
