"""From whatever the caller has to what a signature takes: encoded bytes, uint8 RGB or float32 RGB."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from ..exceptions import InvalidImageError
from ..model.signatures import InputKind
from .text import check_path, decode_data_uri, is_data_uri, shorten

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

ImageLike: TypeAlias = Union[
    str, os.PathLike[str], bytes, bytearray, memoryview, BinaryIO, npt.NDArray[Any], "PILImage"
]

#: What `<(command)` and `command | ... /dev/stdin` are called: pipes that end. Of others, reading may never end.
_OF_THE_SHELL = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
# The first bytes of what tf.io.decode_image reads. Everything else that Pillow reads is decoded here and sent as uint8.
_SERVER_READS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
# Markers of the segments that begin a frame: all of 0xC0 to 0xCF but three, which hold tables.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers of the segments that may stand before it, with a length behind each: tables, applications', comments.
_JPEG_SEGMENTS = frozenset({0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})


@dataclass(frozen=True)
class Image:
    """One image, ready to be sent."""

    source: str
    kind: InputKind
    data: bytes | npt.NDArray[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the image on the wire."""
        return self.data.nbytes if isinstance(self.data, np.ndarray) else len(self.data)

    @property
    def group(self) -> tuple[object, ...]:
        """The key of images that fit into one request: kind and shape."""
        return (self.kind, *self.data.shape) if isinstance(self.data, np.ndarray) else (self.kind,)


def iterate(images: ImageLike | Iterable[ImageLike]) -> Iterator[tuple[str, ImageLike]]:
    """Yields each image with the name that errors call it by."""
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview) or is_single(images):
        images = [images]  # type: ignore[list-item]
    try:
        items = iter(images)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidImageError("images", f"expected one or several images, not {type(images).__name__}") from None
    for index, item in enumerate(items):
        yield name(item, index), item


def is_single(item: object) -> bool:
    """Whether an object is one image; arrays and pandas columns of names are collections of images."""
    if hasattr(item, "__array__"):
        return getattr(getattr(item, "dtype", None), "kind", "") not in ("O", "S", "U")
    return _is_pil(item) or hasattr(item, "read")


def name(item: object, index: int) -> str:
    """Returns the name that errors call an input by."""
    if isinstance(item, str | os.PathLike):
        return shorten(os.fspath(item))
    given = getattr(item, "filename", None) or getattr(item, "name", None)
    return given if isinstance(given, str) else f"image {index}"


def load(source: str, item: ImageLike, *, max_bytes: int) -> list[Image]:
    """Returns the images that an input stands for: a single image, or the N of an `(N, H, W, C)` array.

    Raises:
        InvalidImageError: the input cannot be read, is empty, or is no image.
    """
    if isinstance(item, str):
        if is_data_uri(item):
            return [_from_bytes(source, decode_data_uri(source, item))]
        check_path(source, item)
    if isinstance(item, str | os.PathLike):
        return [_from_bytes(source, read_path(source, item, max_bytes))]
    if isinstance(item, bytes | bytearray | memoryview):
        return [_from_bytes(source, bytes(item))]
    if _is_pil(item):
        return [Image(source, "uint8", rgb(source, item))]
    if hasattr(item, "read"):
        return [_from_bytes(source, _read_file(source, item))]
    if isinstance(item, np.ndarray) or hasattr(item, "__array__"):
        try:
            array = np.asarray(item)
        except Exception as exc:  # another library's array, which may be on a device
            raise InvalidImageError(source, f"cannot be read as an array: {exc}") from exc
        return _from_array(source, array)
    expected = "a path, bytes, a binary file, a PIL image or an array"
    raise InvalidImageError(source, f"expected {expected}, not {type(item).__name__}")


def open_pil(source: str, data: bytes, *, max_pixels: int) -> PILImage:
    """Returns the bytes as a PIL image whose pixels are not decoded yet."""
    from PIL import Image as pil

    if data[4:8] == b"ftyp":
        register_heif()
    try:
        image = pil.open(io.BytesIO(data))
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as exc:
        raise InvalidImageError(source, str(exc)) from exc
    except Exception as exc:  # Pillow's plugins raise whatever a broken header makes them raise
        raise InvalidImageError(source, f"not an image in a known format ({_head(data)})") from exc
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidImageError(source, f"{width} x {height} pixels are more than the {max_pixels} allowed")
    return image


def register_heif() -> bool:
    """Returns whether Pillow reads HEIC: only where pillow-heif is installed, which is then told to Pillow."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


def header_size(source: str, data: bytes) -> tuple[int, int]:
    """Returns an encoded image's (width, height), without decoding it."""
    if (size := _jpeg_size(data)) is not None:  # most are JPEGs, of which Pillow reads the tables, too
        return size
    with open_pil(source, data, max_pixels=2**62) as image:
        return image.width, image.height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Returns (width, height) of a JPEG's frame; None if the file's first segments do not lead to it."""
    place = 2 if data.startswith(b"\xff\xd8\xff") else len(data)
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length, height, width = struct.unpack_from(">BHxHH", data, place + 1)
        if marker in _JPEG_FRAMES:
            return width, height
        if marker not in _JPEG_SEGMENTS:
            break
        place += 2 + length
    return None


def rgb(source: str, image: Any) -> npt.NDArray[np.uint8]:
    """Returns a PIL image as `(H, W, 3)` uint8, converted as Keras' `load_img` does."""
    try:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except Exception as exc:  # Pillow decodes only now, and its plugins raise what they like
        raise InvalidImageError(source, f"cannot be decoded: {exc}") from exc


def read_path(source: str, path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Returns the bytes of a file of at most `max_bytes`.

    Raises:
        InvalidImageError: the file cannot be read, or is larger than `max_bytes`.
    """
    try:
        if not os.fspath(path).startswith(_OF_THE_SHELL):
            _check_regular(source, os.stat(path).st_mode)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise InvalidImageError(
                    source,
                    f"has {size} bytes, more than max_message_bytes={max_bytes} (--max-message-bytes): "
                    'raise it, or use decode="client"',
                )
            return file.read()
    except FileNotFoundError as exc:
        raise InvalidImageError(source, "no such file") from exc
    except (OSError, ValueError) as exc:
        raise InvalidImageError(source, f"cannot be read: {exc}") from exc


def _check_regular(source: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise InvalidImageError(source, f"is {kind}, not an image")


def _read_file(source: str, file: Any) -> bytes:
    try:
        # A file is read from its beginning, as by Pillow: whoever has looked at an upload has moved its position.
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        data = file.read()
    except (OSError, ValueError) as exc:
        raise InvalidImageError(source, f"cannot be read: {exc}") from exc
    if not isinstance(data, bytes):
        raise InvalidImageError(source, f"read() gave {type(data).__name__}, not bytes: open the file in mode 'rb'")
    return data


def _from_bytes(source: str, data: bytes) -> Image:
    if not data:
        raise InvalidImageError(source, "is empty (0 bytes)")
    if data.startswith(_SERVER_READS):
        return Image(source, "encoded", data)
    return Image(source, "uint8", rgb(source, open_pil(source, data, max_pixels=_MAX_PIXELS)))


#: Values of unit variance seldom exceed this. A photo as dark as that, which a resize has left negative values in, is
#: rarer than the mistake; its error says what to pass.
_STANDARDIZED = 8.0
#: How far bicubic and Lanczos resizing leave 0..255, at most: a quarter of the range.
_OVERSHOOT = 64.0
#: Pixels of an image that the client itself decodes, where no manifest says otherwise.
_MAX_PIXELS = 50_000_000


def _from_array(source: str, array: npt.NDArray[Any]) -> list[Image]:
    kind: InputKind
    if array.dtype == np.uint8:
        kind = "uint8"
    elif array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, which is refused
            kind, array = "float", array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise InvalidImageError(source, "has NaN or infinite values; expected 0..255")
        if array.size:
            _check_range(source, float(array.min()), float(array.max()))
    else:
        raise InvalidImageError(source, f"dtype {array.dtype}; expected uint8, or float with values 0..255")
    if array.size == 0:
        raise InvalidImageError(source, f"is empty: shape {array.shape}")
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3, 4):
        shapes = "(H, W), (H, W, C) or (N, H, W, C) with C = 1, 3 or 4"
        raise InvalidImageError(source, f"shape {array.shape}; expected {shapes}, channels last")
    if array.shape[-1] == 1:
        array = np.broadcast_to(array, (*array.shape[:-1], 3))
    array = array[..., :3]
    if array.ndim == 3:
        return [Image(source, kind, array)]
    return [Image(f"{source}[{row}]", kind, image) for row, image in enumerate(array)]


def _check_range(source: str, low: float, high: float) -> None:
    """Refuses floats that are no pixels of 0..255, whose features would be wrong without a word.

    Raises:
        InvalidImageError: the values were scaled, or a mean was subtracted.
    """
    if low == high == 0:  # black is the same in every range
        return
    if low >= 0 and high <= 1:
        raise InvalidImageError(
            source, f"float values up to {high:.3g}; expected 0..255: multiply values of 0..1 by 255, or pass uint8"
        )
    if (low < 0 and high <= _STANDARDIZED) or low < -_OVERSHOOT or high > 255 + _OVERSHOOT:
        raise InvalidImageError(
            source,
            f"float values of {low:.3g} to {high:.3g}; expected 0..255, as they were before any scaling or subtraction "
            "of a mean: the model does that itself. Or pass uint8",
        )


def _is_pil(item: object) -> bool:
    # Another thread may be importing Pillow: then nobody has one of its images yet.
    kind = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return kind is not None and isinstance(item, kind)


def _head(data: bytes) -> str:
    heif = data[4:8] == b"ftyp" and importlib.util.find_spec("pillow_heif") is None
    remedy = "; HEIC needs pillow-heif: pip install pillow-heif" if heif else ""
    return f"{len(data)} bytes, starting with {data[:8]!r}{remedy}"
