"""PNG: what makes up the pixels, cut out of the file."""

from __future__ import annotations

import tensorflow as tf

from ..checks import size_checks, text
from ..crc32 import crc32
from .file import ON_THE_CLIENT, RESEND, File, any_of, checked, four

_END = b"\0\0\0\0IEND\xaeB`\x82"


def decode(file: File, max_pixels: int) -> tf.Tensor:
    """Keeps of the file what makes up the pixels: libpng never meets a compressed profile or text, nor tRNS or gAMA."""
    at, palette, palette_end, first, last, animated = _walk(file)
    width, height = file.big(16, 4), file.big(20, 4)
    depth, color, compression, filtering, interlace = file.read(24, 5)
    contents = checked(
        tf.strings.join([file.cut(0, 33), file.cut(palette, palette_end), file.cut(first, last), _END]),
        [
            (
                tf.equal(file.big(8, 4), 13) & file.starts_with(b"IHDR", at=12) & (last > first),
                text("expected a whole PNG, received one that breaks at byte ", at, f": {RESEND}"),
            ),
            *size_checks(height, width, max_pixels),
            (
                any_of(depth, (1, 2, 4, 8, 16))
                & any_of(color, (0, 2, 3, 4, 6))
                & tf.equal(compression + filtering, 0)
                & (interlace <= 1),
                text("expected a PNG of a known kind, received one of colour type ", color, f": {RESEND}"),
            ),
            (~animated, text(f"expected a still PNG, received an animated one: {ON_THE_CLIENT}")),
        ],
    )

    def gray_of_16_bits() -> tf.Tensor:
        # Pillow clips such a picture where it scales all others.
        wide = tf.io.decode_png(contents, channels=1, dtype=tf.uint16)
        return tf.repeat(tf.cast(tf.minimum(tf.cast(wide, tf.int32), 255), tf.uint8), 3, axis=2)

    return tf.cond(
        tf.equal(depth, 16) & tf.equal(color, 0), gray_of_16_bits, lambda: tf.io.decode_png(contents, channels=3)
    )


def _walk(file: File) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the palette and the first run of IDAT chunks; `last` is 0 unless the file is whole.

    As Pillow does, it checks the sums of all chunks up to the pixels. libpng checks those that it gets.
    """
    max_steps = 64 + file.size // 1024

    def step(steps, at, palette, palette_end, first, last, animated, going):  # type: ignore[no-untyped-def]
        length = file.big(at, 4)
        kind = file.big(at + 4, 4)
        end = tf.cast(tf.minimum(tf.cast(at, tf.int64) + 12 + length, 1 << 30), tf.int32)
        is_data = tf.equal(kind, four(b"IDAT"))
        is_palette = tf.equal(kind, four(b"PLTE"))
        known = tf.strings.regex_full_match(file.cut(at + 4, at + 8), "[A-Za-z0-9_]{4}")
        # Pillow takes a second header for the true one.
        known &= tf.equal(at, 8) | tf.not_equal(kind, four(b"IHDR"))
        sound = (
            known
            & (end <= file.size)
            & tf.cond(
                (end <= file.size) & (first < 1) & ~is_data,
                lambda: tf.equal(tf.cast(crc32(file.padded[at + 4 : end - 4]), tf.int64), file.big(end - 4, 4)),
                lambda: True,
            )
        )
        return (
            steps + 1,
            tf.where(sound, end, at),
            tf.where(is_palette & (first < 1), at, palette),
            tf.where(is_palette & (first < 1), end, palette_end),
            tf.where(is_data & (first < 1), at, first),
            # The run is over at the first other chunk: `last` no longer is where that one starts.
            tf.where(is_data & ((first < 1) | tf.equal(last, at)), end, last),
            animated | tf.equal(kind, four(b"acTL")),
            sound & ~tf.equal(kind, four(b"IEND")),
        )

    def going(steps, at, palette, palette_end, first, last, animated, going):  # type: ignore[no-untyped-def]
        del at, palette, palette_end, first, last, animated
        return going & (steps < max_steps)

    zero = tf.constant(0)
    _, at, palette, palette_end, first, last, animated, _ = tf.while_loop(
        going,
        step,
        (zero, tf.constant(8), zero, zero, zero, zero, tf.constant(False), tf.constant(True)),
        parallel_iterations=1,
    )
    whole = tf.equal(file.cut(at - 12, at), _END)
    return at, palette, palette_end, first, tf.where(whole, last, 0), animated


def without_16_bit_gray(image: tf.Tensor, contents: tf.Tensor) -> tf.Tensor:
    """Refuses, for a gray network, the one kind of file that Keras gives to it with more than 8 bits."""
    file = File.of(contents)
    depth, color = file.read(24, 2)
    wide = file.starts_with(b"\x89PNG") & tf.equal(depth, 16) & tf.equal(color, 0)
    sentence = "expected a gray image of 8 bits, received a PNG of 16 bits, whose values go to 65535: convert it"
    return checked(image, [(~wide, tf.constant(sentence))])
