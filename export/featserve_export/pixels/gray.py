"""Gray images, as Pillow makes them of coloured ones."""

import tensorflow as tf

# Reference: Pillow's Convert.c, the weights of ITU-R 601-2 in 16-bit fixed point.
_WEIGHTS = (19595, 38470, 7471)
_HALF = 1 << 15
_BITS = 16


def as_gray(images: tf.Tensor) -> tf.Tensor:
    """Gives every pixel its gray in all three channels, as `PIL.Image.convert("L")` does.

    Args:
        images: `(…, 3)` uint8 RGB.

    Returns:
        The same shape and dtype.
    """
    weighted = tf.reduce_sum(tf.cast(images, tf.int32) * _WEIGHTS, -1, keepdims=True) + _HALF
    gray = tf.cast(tf.bitwise.right_shift(weighted, _BITS), tf.uint8)
    return tf.concat([gray, gray, gray], -1)


def as_gray_floats(images: tf.Tensor) -> tf.Tensor:
    """The same of `(…, 3)` float32 0..255, without rounding."""
    gray = tf.reduce_sum(images * [weight / (1 << _BITS) for weight in _WEIGHTS], -1, keepdims=True)
    # Where there is no colour the sum may be off by its rounding.
    plain = tf.reduce_all(tf.equal(images, images[..., :1]), -1, keepdims=True)
    gray = tf.where(plain, images[..., :1], gray)
    return tf.concat([gray, gray, gray], -1)
