"""Checks that run inside the served graph and answer INVALID_ARGUMENT with a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

#: What JPEG can express. The weights of a resize grow with the longer side, whatever the area.
MAX_SIDE = 65_535


def text(*parts: object) -> tf.Tensor:
    """Joins strings, numbers and tensors into one scalar string tensor."""
    pieces = [
        (part if part.dtype == tf.string else tf.as_string(part)) if isinstance(part, tf.Tensor) else str(part)
        for part in parts
    ]
    return tf.strings.join(pieces)


def shape_text(shape: tf.Tensor) -> tf.Tensor:
    """Writes a shape as `(1, 224, 224, 3)`."""
    return text("(", tf.strings.reduce_join(tf.as_string(shape), separator=", "), ")")


def first_problem(checks: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """Picks the sentence of the first check that does not hold.

    Args:
        checks: pairs of a scalar bool, true where all is well, and the sentence for when it is not.

    Returns:
        A scalar string, empty where every check holds.
    """
    problem = tf.constant("")
    for holds, sentence in reversed(checks):
        problem = tf.where(holds, problem, sentence)
    return problem


def refuse(problem: tf.Tensor) -> tf.Operation:
    """Fails the request with INVALID_ARGUMENT unless `problem` is empty."""
    return tf.debugging.Assert(tf.equal(problem, ""), [problem])


def check_images(images: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Guards the input of a signature that resizes.

    Args:
        images: what the caller sent, dtype uint8, of any shape.
        max_pixels: the largest `H * W` that is let through.

    Returns:
        `images` as `(N, H, W, 3)` uint8.
    """
    shape = _runtime_shape(images)
    # Zeros and ones of padding keep the slices below valid whatever rank arrived.
    n, height, width, channels = tf.unstack(tf.concat([tf.cast(shape, tf.int64), tf.zeros([4], tf.int64)], 0)[:4], 4)
    received = shape_text(shape)
    problem = first_problem(
        [
            (
                tf.equal(tf.size(shape), 4) & tf.equal(channels, 3),
                text("expected images of shape (N, H, W, 3) uint8 RGB, received ", received, _RANK_REMEDY),
            ),
            (n > 0, text("expected at least one image, received ", received, ": send no empty batch")),
            *size_checks(height, width, max_pixels),
        ]
    )
    with tf.control_dependencies([refuse(problem)]):
        return tf.ensure_shape(tf.identity(images), (None, None, None, 3))


def check_float_images(images: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Guards the input of a signature that takes images of the network's own size.

    Args:
        images: what the caller sent, dtype float32, of any shape.
        image_size: the network's `(height, width)`.

    Returns:
        `images` as `(N, height, width, 3)` float32.
    """
    height, width = image_size
    shape = _runtime_shape(images)
    received = shape_text(shape)
    padded = tf.concat([shape, tf.zeros([4], tf.int32)], 0)[:4]
    problem = first_problem(
        [
            (
                tf.equal(tf.size(shape), 4) & tf.reduce_all(tf.equal(padded[1:], [height, width, 3])),
                text(
                    f"expected images of shape (N, {height}, {width}, 3) float32 RGB, received ", received, _SIZE_REMEDY
                ),
            ),
            (padded[0] > 0, text("expected at least one image, received ", received, ": send no empty batch")),
        ]
    )
    with tf.control_dependencies([refuse(problem)]):
        return tf.ensure_shape(tf.identity(images), (None, height, width, 3))


def check_request_size(request: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """Guards a queue: a request of more images than it holds would be told to try again, for ever.

    Args:
        request: what the caller sent, of any shape.
        limit: the most images that the queue takes at once, scalar int32.
    """
    count = tf.concat([_runtime_shape(request), [0]], 0)[0]
    problem = first_problem(
        [
            (
                count <= limit,
                text(
                    "expected at most ",
                    limit,
                    " images in a request, received ",
                    count,
                    ": send several requests, or raise max_enqueued_batches in the batching file and rebatch",
                ),
            )
        ]
    )
    with tf.control_dependencies([refuse(problem)]):
        return tf.identity(request)


def check_image_bytes(image_bytes: tf.Tensor) -> tf.Tensor:
    """Guards the input of a signature that decodes: `image_bytes`, as `(N,)` strings with N >= 1."""
    shape = _runtime_shape(image_bytes)
    problem = first_problem(
        [
            (
                tf.equal(tf.size(shape), 1) & (tf.reduce_prod(shape) > 0),
                text(
                    "expected image_bytes of shape (N,) with N >= 1, received ",
                    shape_text(shape),
                    ": send a list of encoded images, even for one",
                ),
            )
        ]
    )
    with tf.control_dependencies([refuse(problem)]):
        return tf.ensure_shape(tf.identity(image_bytes), (None,))


def size_checks(height: tf.Tensor, width: tf.Tensor, max_pixels: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Checks, for `first_problem`, of an image's size: scalars int64, not negative."""
    received = text(width, "x", height, ": ")
    return [
        (
            (height > 0) & (width > 0),
            text("expected an image of at least 1x1 pixel, received ", received, "check what was sent"),
        ),
        # The quotient, as the product of two sizes from a hostile header may pass 63 bits.
        (
            height <= max_pixels // tf.maximum(width, 1),
            text(
                f"expected an image of at most {max_pixels} pixels, received ",
                received,
                "raise --max-pixels at export or shrink the image",
            ),
        ),
        (
            (height <= MAX_SIDE) & (width <= MAX_SIDE),
            text(f"expected an image of at most {MAX_SIDE} pixels on a side, received ", received, "shrink the image"),
        ),
    ]


def _runtime_shape(tensor: tf.Tensor) -> tf.Tensor:
    # A server feeds what the caller sent without comparing it with the placeholder, while Grappler folds shapes that
    # the placeholder promises. The shape of a placeholder with default is unknown to Grappler.
    return tf.shape(tf.compat.v1.placeholder_with_default(tensor, shape=None))


_RANK_REMEDY = ": add the batch dimension with images[None], drop the alpha channel, repeat a gray one three times"
_SIZE_REMEDY = ": resize before sending, or use the signature serving_default, which resizes"
