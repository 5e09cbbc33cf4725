"""Reads calibration photos the way the network will see them."""

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from .errors import QuantizationError
from .graph import Array

MIN_PHOTOS = 8
_CROPS = 200
_LEAST_SIDE = 0.4
_HELD_OUT_EVERY = 4
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
# Where no channel has a greater standard deviation (0..255) the photos are one color as far as ranges are concerned.
_MIN_SPREAD = 4.0


@dataclass(frozen=True, kw_only=True)
class CalibrationPhotos:
    """Photos to calibrate with.

    Attributes:
        images: `(count, height, width, 3)` float32 RGB, 0..255.
        crops: `(200, height, width, 3)`, the same of squares of 40 to 100 % of the shorter side of those held out.
        skipped: files that could not be decoded.
        warnings: sentences about the set as a whole.
    """

    images: Array
    crops: Array
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]


def read_photos(
    source: str | Path,
    image_size: tuple[int, int],
    *,
    count: int,
    interpolation: str = "nearest",
    crop_to_aspect_ratio: bool = False,
) -> CalibrationPhotos:
    """Reads the first `count` photos, evenly spread over the sorted names, that can be decoded.

    Args:
        source: a directory, searched with its subdirectories, or a glob.
        image_size: `(height, width)` of the network in pixels.
        count: how many photos are wanted, at least 8.
        interpolation: as for `keras.utils.load_img`.
        crop_to_aspect_ratio: as its `keep_aspect_ratio`.

    Raises:
        QuantizationError: fewer than 8 photos can be read.
    """
    if count < MIN_PHOTOS:
        raise QuantizationError(f"expected --calibration-images of at least {MIN_PHOTOS}, received {count}")
    paths = _paths(source)
    if not paths:
        raise QuantizationError(
            f"expected a directory or glob of photos to calibrate with, {source} has none; "
            "give about 64 photos like those that will be served"
        )
    images: list[Array] = []
    read: list[Path] = []
    skipped: list[str] = []
    for path in _spread(paths, count):
        if len(images) == count:
            break
        try:
            photo = keras.utils.load_img(
                path, target_size=image_size, interpolation=interpolation, keep_aspect_ratio=crop_to_aspect_ratio
            )
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
            skipped.append(str(path))
        else:
            images.append(np.asarray(photo, np.float32))
            read.append(path)
    if len(images) < MIN_PHOTOS:
        raise QuantizationError(
            f"expected at least {MIN_PHOTOS} photos to calibrate with, "
            f"received {len(images)} from {source} ({len(skipped)} could not be decoded)"
        )
    stacked = np.stack(images)
    crops = _crops(
        [path for path, out in zip(read, held_out(len(read)), strict=True) if out], image_size, interpolation
    )
    return CalibrationPhotos(images=stacked, crops=crops, skipped=tuple(skipped), warnings=one_color_warning(stacked))


def held_out(count: int) -> npt.NDArray[np.bool_]:
    """Which of so many photos prove the result and set nothing: every fourth."""
    mask: npt.NDArray[np.bool_] = np.arange(count) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    return mask


def one_color_warning(images: Array) -> tuple[str, ...]:
    """Warns where all pixels are nearly the same: such photos say nothing about the ranges of others."""
    if float(images.std(axis=(0, 1, 2)).max()) >= _MIN_SPREAD:
        return ()
    return ("the calibration photos are of one color: ranges are degenerate, other photos will saturate",)


def _crops(paths: Sequence[Path], image_size: tuple[int, int], interpolation: str) -> Array:
    """Cuts squares out of photos in their own size, the same each time."""
    rng = np.random.default_rng(0)
    resample = Image.Resampling[interpolation.upper()]
    crops: list[Array] = []
    for index, path in enumerate(paths):
        photo = keras.utils.load_img(path)
        for _ in range(index, _CROPS, len(paths)):
            side = max(round(min(photo.size) * rng.uniform(_LEAST_SIDE, 1)), 1)
            left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
            crop = photo.crop((left, top, left + side, top + side)).resize(image_size[::-1], resample)
            crops.append(np.asarray(crop, np.float32))
    return np.stack(crops)


def _paths(source: str | Path) -> list[Path]:
    if Path(source).is_dir():
        found: Sequence[Path] = list(Path(source).rglob("*"))
    else:
        found = [Path(name) for name in glob.glob(str(source), recursive=True)]
    keep: Callable[[Path], bool] = lambda path: path.is_file() and path.suffix.lower() in _SUFFIXES  # noqa: E731
    return sorted(filter(keep, found))


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """All paths: first `count` at even distances, then the rest, which stand in for those that cannot be decoded."""
    step = max(len(paths) // count, 1)
    first = list(paths[::step])[:count]
    chosen = set(first)
    return first + [path for path in paths if path not in chosen]
