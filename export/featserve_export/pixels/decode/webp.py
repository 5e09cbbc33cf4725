"""WebP: the headers that tell its size and kind."""

from __future__ import annotations

import tensorflow as tf

from ..checks import size_checks, text
from .file import ON_THE_CLIENT, RESEND, File, checked, four


def decode(file: File, max_pixels: int) -> tf.Tensor:
    """Checks what the headers tell; the decoder checks the rest."""
    kind = file.big(12, 4)
    lossy, lossless, extended = (tf.equal(kind, four(name)) for name in (b"VP8 ", b"VP8L", b"VP8X"))
    packed = file.little(21, 4)
    width = tf.where(
        extended, file.little(24, 3) + 1, tf.where(lossless, packed % 16384 + 1, file.little(26, 2) % 16384)
    )
    height = tf.where(
        extended, file.little(27, 3) + 1, tf.where(lossless, packed // 16384 % 16384 + 1, file.little(28, 2) % 16384)
    )
    flags = file.read(20, 1)[0]
    # The lossless decoder of TensorFlow reads on behind the end that the file states.
    stated = tf.cast(file.little(4, 4) + 8, tf.int32)
    contents = checked(
        file.cut(0, stated),
        [
            (
                (lossy | lossless | extended)
                & (file.little(16, 4) > 0)
                & (file.little(16, 4) + 12 <= file.little(4, 4))
                & (file.little(4, 4) + 8 <= tf.cast(file.size, tf.int64)),
                text("expected a whole WebP, received ", file.size, f" bytes that are not: {RESEND}"),
            ),
            *size_checks(height, width, max_pixels),
            (
                ~(extended & tf.equal(tf.bitwise.bitwise_and(flags, 2), 2)),
                text(f"expected a still WebP, received an animated one: {ON_THE_CLIENT}"),
            ),
        ],
    )
    # decode_image, not decode_webp: a server older than WebP support then still loads the model and refuses the file.
    return tf.raw_ops.DecodeImage(contents=contents, channels=0, expand_animations=False)[:, :, :3]
