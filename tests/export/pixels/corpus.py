"""Encoded images of every format and kind, whole and damaged, from a seed."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin


def photo(rng: np.random.Generator, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth random levels with some noise: `(height, width, channels)` uint8."""
    steps = rng.normal(0, 3, (height, width, channels))
    return np.clip(np.cumsum(np.cumsum(steps, 0), 1) + 128 + steps, 0, 255).astype(np.uint8)


def encode(image: Image.Image, **options: Any) -> bytes:
    """Saves into bytes."""
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def pillow_pixels(contents: bytes) -> np.ndarray | None:
    """What `keras.utils.load_img` sees: `(H, W, 3)` uint8, or None where Pillow refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(contents)) as image:
                return np.asarray(image.convert("RGB"))
    except Exception:  # Pillow's plugins raise whatever struct, zlib and they themselves raise
        return None


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    *,
    depth: int,
    color: int,
    rows: bytes,
    palette: bytes | None = None,
    extra: bytes = b"",
    interlace: int = 0,
) -> bytes:
    """A PNG of kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            extra,
            png_chunk(b"PLTE", palette) if palette is not None else b"",
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        ]
    )


def _random_png(rng: np.random.Generator, width: int, height: int, depth: int, color: int) -> bytes:
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    stride = (width * channels * depth + 7) // 8
    rows = b"".join(b"\0" + rng.bytes(stride) for _ in range(height))
    palette = rng.bytes(3 * 2**depth) if color == 3 else None
    return png(width, height, depth=depth, color=color, rows=rows, palette=palette)


def images(rng: np.random.Generator, height: int, width: int) -> dict[str, bytes]:
    """One whole file of each kind, `height` x `width`."""
    levels = photo(rng, height, width, 4)
    rgb, rgba = Image.fromarray(levels[..., :3]), Image.fromarray(levels)
    gray, cmyk = Image.fromarray(levels[..., 0]), Image.fromarray(levels, "CMYK")
    palette, few, bits = rgb.quantize(200), rgb.quantize(3), gray.convert("1")
    gray16 = Image.fromarray(levels[..., 0].astype(np.uint16) * 3)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a comment " * 20, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "jpeg gray": encode(gray, format="JPEG"),
        "jpeg cmyk": encode(cmyk, format="JPEG"),
        "jpeg ycck": encode(cmyk, format="JPEG").replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\x02"),
        "jpeg exif, comment": encode(rgb, format="JPEG", exif=exif, comment="a comment"),
        "jpeg restarts": encode(rgb, format="JPEG", restart_marker_rows=1),
        "png rgb": encode(rgb, format="PNG"),
        "png rgba": encode(rgba, format="PNG"),
        "png gray": encode(gray, format="PNG"),
        "png gray, alpha": encode(rgba.convert("LA"), format="PNG"),
        "png palette": encode(palette, format="PNG"),
        "png palette, transparency": encode(palette, format="PNG", transparency=bytes(range(200))),
        "png rgb, transparency": encode(rgb, format="PNG", transparency=(1, 2, 3)),
        "png palette of 3": encode(few, format="PNG"),
        "png 1 bit": encode(bits, format="PNG"),
        "png gray 16 bit": encode(gray16, format="PNG"),
        "png text, profile": encode(rgb, format="PNG", pnginfo=text, icc_profile=bytes(500), dpi=(72, 72)),
        "bmp rgb": encode(rgb, format="BMP"),
        "bmp rgba": encode(rgba, format="BMP"),
        "bmp gray": encode(gray, format="BMP"),
        "bmp palette": encode(palette, format="BMP"),
        "bmp palette of 3": encode(few, format="BMP"),
        "bmp 1 bit": encode(bits, format="BMP"),
        "gif": encode(palette, format="GIF", interlace=False),
        "gif interlaced": encode(palette, format="GIF", interlace=True),
        "gif gray": encode(gray, format="GIF"),
        "gif 1 bit": encode(bits, format="GIF"),
        "gif transparency": encode(palette, format="GIF", transparency=2),
        "gif animated": encode(palette, format="GIF", save_all=True, append_images=[palette.rotate(90), few]),
        "webp lossy": encode(rgb, format="WEBP", lossless=False),
        "webp lossless": encode(rgb, format="WEBP", lossless=True),
        "webp lossy, alpha": encode(rgba, format="WEBP", lossless=False),
        "webp lossless, alpha": encode(rgba, format="WEBP", lossless=True),
    }
    for progressive in (False, True):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            name = f"jpeg {'progressive' if progressive else 'baseline'} {subsampling}"
            quality = int(rng.integers(20, 96))
            files[name] = encode(rgb, format="JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    for depth, color in [(2, 0), (4, 0), (16, 0), (16, 2), (1, 3), (2, 3), (4, 3), (16, 4), (16, 6)]:
        files[f"png colour type {color}, {depth} bit"] = _random_png(rng, width, height, depth, color)
    return files


def damaged(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of `count` files that mutation made of whole ones; some are still whole."""
    rng = np.random.default_rng(seed)
    chance = random.Random(seed)
    sizes = [(1, 1), (5, 3), (16, 16), (33, 47)]
    whole = [(name, data) for height, width in sizes for name, data in images(rng, height, width).items()]
    for _ in range(count):
        name, data = chance.choice(whole)
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            data = chance.choice(_MUTATIONS)(chance, data, chance.choice(whole)[1])
        yield name, data


def _flip_bits(chance: random.Random, data: bytes, other: bytes) -> bytes:
    del other
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _edit_header(chance: random.Random, data: bytes, other: bytes) -> bytes:
    del other
    changed = bytearray(data)
    if changed:
        changed[chance.randrange(min(len(changed), 64))] = chance.choice([0, 1, 2, 3, 4, 127, 128, 254, 255])
    return bytes(changed)


def _truncate(chance: random.Random, data: bytes, other: bytes) -> bytes:
    del other
    return data[: chance.randrange(len(data) + 1)]


def _splice(chance: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _repeat(chance: random.Random, data: bytes, other: bytes) -> bytes:
    del other
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.randrange(1, 40))
    return data[:end] + data[start:]


def _remove(chance: random.Random, data: bytes, other: bytes) -> bytes:
    del other
    start = chance.randrange(len(data) + 1)
    return data[:start] + data[start + chance.randrange(1, 20) :]


def _edit_chunk(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Changes a PNG chunk and mends its checksum; drops, doubles or swaps JPEG segments alike by their markers."""
    if not data.startswith(b"\x89PNG"):
        return _flip_bits(chance, data, other)
    chunks = []
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    index = chance.randrange(len(chunks))
    kind, content = chunks[index]
    choice = chance.randrange(4)
    if choice == 0:
        del chunks[index]
    elif choice == 1:
        chunks.insert(chance.randrange(len(chunks)), (kind, content))
    else:
        chunks[index] = (kind, _flip_bits(chance, content, other))
    return data[:8] + b"".join(png_chunk(kind, content) for kind, content in chunks)


_MUTATIONS = [_flip_bits, _edit_header, _truncate, _splice, _repeat, _remove, _edit_chunk, _edit_chunk]
