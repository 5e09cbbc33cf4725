"""Files that are complete or not there, and survive a power cut."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Writes a file under another name, and renames it once it is complete; a broken write leaves nothing."""
    with _replacing(path) as temporary:
        with open(temporary, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
    sync(path.parent)


def write_lines(path: Path, items: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON lines, complete or not at all."""
    with _replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync(path: Path) -> None:
    """Makes a file or directory, and all in it, survive a power cut."""
    for item in (path, *path.rglob("*")) if path.is_dir() and path.suffix == ".tmp" else (path,):
        handle = os.open(item, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
