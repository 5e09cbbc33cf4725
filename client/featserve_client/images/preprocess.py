"""Keras' `load_img` with Pillow: decoding and resizing on the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import InvalidImageError, InvalidRequest
from ..model.manifest import Preprocessing
from .inputs import Image, ImageLike, load, open_pil, rgb

if TYPE_CHECKING:
    from PIL import Image as pil

#: Keras' names, keras/src/utils/image_utils.py, and Pillow's numbers for them.
_INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def check_preprocessing(model: str, how: Preprocessing | None) -> Preprocessing:
    """Returns a model's preprocessing if this client can do it.

    Raises:
        InvalidRequest: the manifest has no preprocessing, or has a preprocessing that this client does not know.
    """
    if how is None:
        raise InvalidRequest(f"model {model!r}: its manifest has no preprocessing", model=model)
    if how.interpolation not in _INTERPOLATIONS or min(how.height, how.width, how.max_pixels) < 1:
        raise InvalidRequest(f"model {model!r}: preprocessing that this client does not know: {how}", model=model)
    return how


def load_preprocessed(source: str, item: ImageLike, how: Preprocessing) -> list[Image]:
    """Returns the images at the network's size, `(height, width, 3)` uint8 RGB; float arrays pass as they are.

    Raises:
        InvalidImageError: the input cannot be read, is too large, or is no image.
    """
    images = load(source, item, max_bytes=2**63)
    return [image if image.kind == "float" else Image(image.source, "uint8", _fit(image, how)) for image in images]


def _upright(source: str, picture: pil.Image) -> pil.Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception as exc:  # Pillow decodes only now, and its plugins raise what they like
        raise InvalidImageError(source, f"cannot be decoded: {exc}") from exc


def _fit(image: Image, how: Preprocessing) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from PIL import Image as pil

    if isinstance(image.data, bytes):
        picture = open_pil(image.source, image.data, max_pixels=how.max_pixels)
        if how.apply_orientation and picture.format in ("JPEG", "MPO"):
            picture = _upright(image.source, picture)
        if picture.mode != "RGB":
            picture = pil.fromarray(rgb(image.source, picture))
    else:
        picture = pil.fromarray(np.ascontiguousarray(image.data))
    if how.gray:
        picture = picture.convert("L").convert("RGB")
    size = (how.width, how.height)
    if picture.size == size:
        return rgb(image.source, picture)
    box = None
    if how.crop_to_aspect_ratio:
        width, height = picture.size
        wide = min(width, height * how.width // how.height)
        high = min(height, width * how.height // how.width)
        left, top = (width - wide) // 2, (height - high) // 2
        box = (left, top, left + wide, top + high)
    try:
        return np.asarray(picture.resize(size, pil.Resampling(_INTERPOLATIONS[how.interpolation]), box=box))
    except Exception as exc:  # Pillow decodes only now, and its plugins raise what they like
        raise InvalidImageError(image.source, f"cannot be decoded: {exc}") from exc
