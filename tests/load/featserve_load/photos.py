"""Real photos of several sizes, as files would hold them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import LoadError

#: scikit-image's photos that its wheel holds.
NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "motorcycle_left.png")
#: Longer sides in pixels, from a thumbnail to a small camera image.
SIDES = (160, 320, 512, 800)
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png"})


def folder() -> Path:
    """Returns the directory of scikit-image's pictures."""
    import skimage

    return Path(skimage.__file__).parent / "data"


def paths() -> list[Path]:
    """Returns the files of the photos that scikit-image brings along."""
    found = [folder() / name for name in NAMES if (folder() / name).exists()]
    if not found:
        raise LoadError(f"no photos: scikit-image has none in {folder()}; give --photos DIR")
    return found


def packaged() -> list[Image.Image]:
    """Returns the photos that scikit-image brings along."""
    return [Image.open(path).convert("RGB") for path in paths()]


def sized(photo: Image.Image, side: int) -> Image.Image:
    """Returns a photo whose longer side has `side` pixels."""
    scale = side / max(photo.size)
    width, height = (max(1, round(length * scale)) for length in photo.size)
    return photo.resize((width, height), Image.Resampling.LANCZOS)


def jpeg(photo: Image.Image, quality: int = 88) -> bytes:
    """Returns a photo as a JPEG file."""
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def files(directory: Path | None = None, *, limit: int = 64) -> list[bytes]:
    """Returns encoded photos: those of a directory as they are, otherwise packaged ones as JPEGs of several sizes."""
    if directory is None:
        return [jpeg(sized(photo, side)) for side in SIDES for photo in packaged()]
    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in _SUFFIXES)[:limit]
    if not paths:
        raise LoadError(f"no photos in {directory}; expected {', '.join(sorted(_SUFFIXES))} files")
    return [path.read_bytes() for path in paths]


def pixels(encoded: list[bytes], size: tuple[int, int]) -> list[npt.NDArray[np.uint8]]:
    """Returns photos as `(height, width, 3)` uint8 RGB."""
    height, width = size
    return [np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((width, height))) for data in encoded]
