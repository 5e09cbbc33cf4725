"""Which files a list of arguments means."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..exceptions import InvalidImageError

#: What a directory is searched for; files named by themselves may be called anything.
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp", ".avif"}
)


def find_images(sources: Sequence[str]) -> list[str]:
    """Return the image files meant, each once, in the order of the arguments and sorted within each.

    A source is a file, a directory (searched with all below it, but not behind links), a glob pattern, a list (`@FILE`:
    a path a line) or `-` (the list on stdin; separated by NUL if it holds one, so that names may hold newlines).

    Raises:
        InvalidImageError: A source names no image.
    """
    found: dict[str, None] = {}
    for source in sources:
        names = _expand(source)
        if not names:
            raise InvalidImageError(source, "has no image in it")
        found.update(dict.fromkeys(names))
    return list(found)


def _expand(source: str) -> list[str]:
    if source == "-":
        return _lines(sys.stdin.buffer.read())
    if os.path.isdir(source):
        return sorted(
            os.path.join(folder, name)
            for folder, _, names in os.walk(source)
            for name in names
            if os.path.splitext(name)[1].lower() in SUFFIXES
        )
    if os.path.lexists(source):
        return [source]
    if source.startswith("@"):
        try:
            return _lines(Path(source[1:]).read_bytes())
        except OSError as exc:
            raise InvalidImageError(source, f"cannot be read: {exc}") from exc
    matches = sorted(name for name in glob.glob(source, recursive=True) if os.path.isfile(name))
    if not matches and not glob.has_magic(source):
        raise InvalidImageError(source, "no such file or directory")
    return matches


def _lines(data: bytes) -> list[str]:
    if b"\0" in data:
        parts = data.split(b"\0")
    else:
        lines = [line for line in data.split(b"\n") if line]
        windows = all(line.endswith(b"\r") for line in lines)
        parts = [line.removesuffix(b"\r") for line in lines] if windows else lines
    return [os.fsdecode(part) for part in parts if part]
