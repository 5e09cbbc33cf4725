"""Decodes JPEG, PNG, GIF, BMP and WebP with TensorFlow's own operations to the pixels that Pillow gives, or refuses.

Each format first has its headers walked here, in the graph: that bounds the memory before anything is allocated, and
keeps from TensorFlow's decoders whatever they would decode otherwise than Pillow does, or not safely.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from ..apart import apart
from ..checks import check_image_bytes, text
from ..gray import as_gray
from ..resize import resize_images
from . import bmp, gif, jpeg, png, webp
from .exif import upright
from .file import ON_THE_CLIENT, File, checked


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def decode_and_resize(
    image_bytes: tf.Tensor,
    *,
    image_size: tuple[int, int],
    interpolation: str,
    crop_to_aspect_ratio: bool,
    max_pixels: int,
    apply_orientation: bool = False,
    gray: bool = False,
) -> tf.Tensor:
    """Decodes and resizes a request's images side by side.

    Args:
        image_bytes: `(N,)` string, encoded images of any sizes.
        image_size: `(height, width)` of the result.
        interpolation: one of `INTERPOLATIONS`.
        crop_to_aspect_ratio: cuts the centre to the result's aspect ratio first.
        max_pixels: larger images are refused.
        apply_orientation: turns JPEGs as their EXIF orientation says, as `PIL.ImageOps.exif_transpose` does.
        gray: takes the colour away before the resize, as `load_img(color_mode="grayscale")` does.

    Returns:
        `(N, height, width, 3)` uint8 RGB, equal to `keras.utils.load_img` of each; three equal channels of a gray one.
    """

    def load(contents: tf.Tensor) -> tf.Tensor:
        image = decode_image(contents, max_pixels=max_pixels)
        if apply_orientation:
            image = upright(image, contents)
        if gray:
            image = as_gray(png.without_16_bit_gray(image, contents))
        resized = resize_images(
            image[None],
            image_size=image_size,
            interpolation=interpolation,
            crop_to_aspect_ratio=crop_to_aspect_ratio,
        )
        return resized[0]

    return tf.map_fn(
        load,
        check_image_bytes(image_bytes),
        # Bounds the memory too: as many decoded images exist at once.
        parallel_iterations=8,
        fn_output_signature=tf.TensorSpec((*image_size, 3), tf.uint8),
    )


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def decode_image(contents: tf.Tensor, *, max_pixels: int) -> tf.Tensor:
    """Decodes one image as `PIL.Image.open(contents).convert("RGB")` does.

    What cannot be decoded to Pillow's pixels fails with INVALID_ARGUMENT when it runs, and so does an image of more
    than `max_pixels`, before it is decoded.

    Args:
        contents: scalar string, the encoded image.
        max_pixels: larger images are refused.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    pixels = tf.cond(
        jpeg.is_plain(contents, max_pixels), lambda: jpeg.decode_plain(contents), lambda: _closely(contents, max_pixels)
    )
    return tf.ensure_shape(pixels, (None, None, 3))


@apart
def _closely(contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Decodes or refuses a file of any kind."""
    file = File.of(contents)
    starts = [
        file.starts_with(b"\xff\xd8\xff"),
        file.starts_with(b"\x89PNG\r\n\x1a\n"),
        file.starts_with(b"GIF87a") | file.starts_with(b"GIF89a"),
        file.starts_with(b"BM"),
        file.starts_with(b"RIFF") & file.starts_with(b"WEBP", at=8),
    ]
    decoders = [jpeg.decode, png.decode, gif.decode, bmp.decode, webp.decode, _unknown]
    index = tf.argmax(tf.stack([*starts, tf.constant(True)]), output_type=tf.int32)
    return tf.switch_case(index, [functools.partial(_decode, contents, decoder, max_pixels) for decoder in decoders])


@apart
def _decode(contents: tf.Tensor, decoder: Callable[[File, int], tf.Tensor], max_pixels: int) -> tf.Tensor:
    return decoder(File.of(contents), max_pixels)


def _unknown(file: File, max_pixels: int) -> tf.Tensor:
    del max_pixels
    received = tf.where(tf.equal(file.size, 0), "no bytes", text(file.size, " bytes that start otherwise"))
    sentence = text("expected a JPEG, PNG, GIF, BMP or WebP file, received ", received, f": {ON_THE_CLIENT}")
    return checked(tf.zeros([1, 1, 3], tf.uint8), [(tf.constant(False), sentence)])
