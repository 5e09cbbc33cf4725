"""Keras' `load_img` with Pillow: decoding and resizing on the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import InvalidImageError, InvalidRequest
from ..model.metadata import ModelMetadata
from .inputs import Image, ImageLike, load, open_pil, rgb

#: Keras' names, keras/src/utils/image_utils.py, and Pillow's numbers for them.
_INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a model wants its pixels, from its manifest."""

    height: int
    width: int
    interpolation: str
    crop_to_aspect_ratio: bool
    max_pixels: int

    @classmethod
    def of(cls, model: ModelMetadata) -> Preprocessing:
        """Read the manifest.

        Raises:
            InvalidRequest: The model has none, or one without usable preprocessing.
        """
        if model.manifest is None:
            raise InvalidRequest(
                f'model {model.model!r} has no manifest, which decode="client" needs; use decode="server"',
                model=model.model,
            )
        try:
            found = model.manifest["preprocessing"]
            height, width = found["image_size"]
            made = cls(
                height=int(height),
                width=int(width),
                interpolation=str(found["interpolation"]),
                crop_to_aspect_ratio=bool(found["crop_to_aspect_ratio"]),
                max_pixels=int(found["max_pixels"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise InvalidRequest(f"model {model.model!r}: its manifest's preprocessing lacks {exc}") from exc
        if made.interpolation not in _INTERPOLATIONS or min(made.height, made.width, made.max_pixels) < 1:
            raise InvalidRequest(f"model {model.model!r}: preprocessing that this client does not know: {made}")
        return made


def decode_local(source: str, item: ImageLike, how: Preprocessing) -> list[Image]:
    """Return the images at the network's size, as uint8; float arrays pass as they are.

    Raises:
        InvalidImageError: It cannot be read, is too large, or is no image.
    """
    images = load(source, item, max_bytes=2**63)
    return [image if image.kind == "float" else Image(image.source, "uint8", _fit(image, how)) for image in images]


def _fit(image: Image, how: Preprocessing) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from PIL import Image as pil

    if isinstance(image.data, bytes):
        picture = open_pil(image.source, image.data, max_pixels=how.max_pixels)
        if picture.mode != "RGB":
            picture = pil.fromarray(rgb(image.source, picture))
    else:
        picture = pil.fromarray(np.ascontiguousarray(image.data))
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
