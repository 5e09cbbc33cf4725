"""Version directories on disk, and which of them a policy asks for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MAX_VERSION = 2**63 - 1
Fingerprint = tuple[tuple[str, int, int], ...]


def scan_versions(base_path: Path) -> dict[int, Path] | None:
    """Returns the complete version directories by number, or `None` if the directory cannot be read.

    A directory counts once its `saved_model.pb` is there: one that is still being copied usually ends with it, and
    one whose load fails is tried again when its files change.
    """
    versions: dict[int, Path] = {}
    try:
        names = sorted(os.listdir(base_path))
    except OSError:
        return None
    for name in names:
        if name.isascii() and name.isdigit() and int(name) <= _MAX_VERSION and is_saved_model(base_path / name):
            versions.setdefault(int(name), base_path / name)
    return versions


def is_saved_model(path: Path) -> bool:
    """Returns whether a directory holds a SavedModel, as far as it can be looked into."""
    try:
        return any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt"))
    except OSError:
        return True  # it cannot be looked into: the load will say why


def fingerprint(path: Path) -> Fingerprint:
    """Returns the name, size and time of each file of a directory: they change when the files change."""
    entries = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            try:
                stat = os.stat(file)
            except OSError:
                continue
            entries.append((file, stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(entries))


def choose_versions(policy: Any, versions: Iterable[int]) -> set[int]:
    """Returns the versions that a `ServableVersionPolicy` asks for, out of those that exist."""
    existing = sorted(versions, reverse=True)
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return set(existing)
    if kind == "specific":
        return set(existing) & set(policy.specific.versions)
    count = policy.latest.num_versions if kind == "latest" else 0
    return set(existing[: count or 1])
