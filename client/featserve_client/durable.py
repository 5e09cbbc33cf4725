"""Files that are complete or not there, and survive a power cut."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name, and rename it once it is complete."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)


def write_lines(path: Path, items: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, complete or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sync(path: Path) -> None:
    """Make a file or directory, and all in it, survive a power cut."""
    for item in (path, *path.rglob("*")) if path.is_dir() and path.suffix == ".tmp" else (path,):
        handle = os.open(item, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
