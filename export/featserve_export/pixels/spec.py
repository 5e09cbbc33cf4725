"""How an image of any size becomes the network's input."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from .checks import check_float_images, check_images
from .decode import decode_and_resize
from .gray import as_gray, as_gray_floats
from .resize import resize_images


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How an image of any size becomes the network's input.

    Attributes:
        image_size: the network's `(height, width)` in pixels.
        interpolation: one of `INTERPOLATIONS`.
        crop_to_aspect_ratio: cut to the network's aspect ratio before resizing, instead of stretching.
        max_pixels: larger images are refused before they are decoded.
        apply_orientation: turn JPEGs as their EXIF orientation says.
        gray: take the colour away, for a network of one channel; images keep three equal channels.
    """

    image_size: tuple[int, int]
    interpolation: str
    crop_to_aspect_ratio: bool
    max_pixels: int
    apply_orientation: bool = False
    gray: bool = False

    def decode(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Encoded images `(N,)` to `(N, height, width, 3)` float32 RGB 0..255."""
        resized = decode_and_resize(
            image_bytes,
            image_size=self.image_size,
            interpolation=self.interpolation,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            max_pixels=self.max_pixels,
            apply_orientation=self.apply_orientation,
            gray=self.gray,
        )
        return tf.cast(resized, tf.float32)

    def resize(self, images: tf.Tensor) -> tf.Tensor:
        """Images `(N, H, W, 3)` uint8 to `(N, height, width, 3)` float32 RGB 0..255."""
        checked = check_images(images, self.max_pixels)
        resized = resize_images(
            as_gray(checked) if self.gray else checked,
            image_size=self.image_size,
            interpolation=self.interpolation,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
        )
        return tf.cast(resized, tf.float32)

    def check(self, images: tf.Tensor) -> tf.Tensor:
        """Images that have the network's size already."""
        checked = check_float_images(images, self.image_size)
        return as_gray_floats(checked) if self.gray else checked
