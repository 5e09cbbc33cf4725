"""Which files a list of arguments means."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import InvalidImageError
from .inputs import register_heif
from .text import check_path, is_data_uri, shorten

#: What a directory is searched for; files named by themselves may be called anything.
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp", ".avif"}
)
#: What is searched for, too, where pillow-heif is installed.
HEIF_SUFFIXES = frozenset({".heic", ".heif"})


@dataclass(frozen=True)
class FoundImages:
    """The image files that a list of arguments means, and why other files in the folders were passed over."""

    paths: list[str]
    #: Files or folders by the reason why they were passed over.
    passed_over: Counter[str]


def find_images(sources: Sequence[str]) -> FoundImages:
    """Returns the image files meant, each once, in the order of the arguments and sorted within each.

    A source is a file, a directory (searched with all below it, but not behind links), a glob pattern, a list (`@FILE`:
    a path a line) or `-` (the list on stdin; separated by NUL if it holds one, so that names may hold newlines).

    Raises:
        InvalidImageError: a source names no image.
    """
    found: dict[str, None] = {}
    passed_over: Counter[str] = Counter()
    for source in sources:
        names = _expand(source, passed_over)
        if not names:
            raise InvalidImageError(source, f"has no image in it{_others(passed_over)}")
        found.update(dict.fromkeys(names))
    return FoundImages(list(found), passed_over)


def describe(passed_over: Counter[str]) -> str:
    """Returns a line about the files passed over, the most frequent reason first."""
    return ", ".join(f"{count} {reason}" for reason, count in passed_over.most_common())


def _others(passed_over: Counter[str]) -> str:
    return f"; passed over: {describe(passed_over)}" if passed_over else ""


def _expand(source: str, passed_over: Counter[str]) -> list[str]:
    if source == "-":
        return _lines(sys.stdin.buffer.read())
    if not source:
        raise InvalidImageError("''", "names no file: an argument is empty")
    if os.path.isdir(source):
        return _search(source, passed_over)
    if os.path.lexists(source):
        return [source]
    if source.startswith("@"):
        try:
            return _lines(Path(source[1:]).read_bytes())
        except OSError as exc:
            raise InvalidImageError(source, f"cannot be read: {exc}") from exc
    if is_data_uri(source):
        raise InvalidImageError(shorten(source), "is a data URI; the command takes files")
    check_path(shorten(source), source)
    matches = sorted(name for name in glob.glob(source, recursive=True) if os.path.isfile(name))
    if not matches and not glob.has_magic(source):
        raise InvalidImageError(source, "no such file or directory")
    return matches


def _search(top: str, passed_over: Counter[str]) -> list[str]:
    suffixes = SUFFIXES | HEIF_SUFFIXES if register_heif() else SUFFIXES
    found = []

    def unreadable(error: OSError) -> None:
        passed_over[f"folders that cannot be read ({os.strerror(error.errno or 0)})"] += 1

    for folder, subfolders, names in os.walk(top, onerror=unreadable):
        if "__MACOSX" in subfolders:  # what macOS adds to archives: no photos, though called so
            subfolders.remove("__MACOSX")
            passed_over["__MACOSX folders"] += 1
        passed_over["links to folders"] += sum(os.path.islink(os.path.join(folder, name)) for name in subfolders)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("._"):
                passed_over["._ files of macOS"] += 1
            elif suffix in suffixes:
                found.append(os.path.join(folder, name))
            elif suffix in HEIF_SUFFIXES:
                passed_over[f"{suffix} (needs pillow-heif)"] += 1
            else:
                passed_over[suffix or "without an ending"] += 1
    passed_over += Counter()  # drops the reasons that were counted as none
    return sorted(found)


def _lines(data: bytes) -> list[str]:
    if b"\0" in data:
        parts = data.split(b"\0")
    else:
        lines = [line for line in data.split(b"\n") if line]
        windows = all(line.endswith(b"\r") for line in lines)
        parts = [line.removesuffix(b"\r") for line in lines] if windows else lines
    return [os.fsdecode(part) for part in parts if part]
