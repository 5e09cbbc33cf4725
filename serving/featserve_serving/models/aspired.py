"""The versions that a model should serve: its policy's choice among those of its directory that can be loaded."""

from __future__ import annotations

import logging
from pathlib import Path

from .paths import local_path
from .state import Model, Version
from .versions import choose_versions, fingerprint, scan_versions

_LOGGER = logging.getLogger(__name__)


def aspired_versions(name: str, model: Model) -> dict[int, Path] | None:
    """Returns the versions to serve and their directories, or `None` to leave everything as it is."""
    if model.config is None:
        return {}
    existing = scan_versions(local_path(model.config.base_path))
    if existing is None:
        if not model.unreadable:
            _LOGGER.warning("model %s: %s cannot be read; what is loaded stays", name, model.config.base_path)
        model.unreadable = True
        return None
    model.unreadable = False
    working = {n: path for n, path in existing.items() if not _failed_before(model.versions.get(n), path)}
    return {n: working[n] for n in choose_versions(model.config.model_version_policy, working)}


def _failed_before(version: Version | None, path: Path) -> bool:
    return version is not None and version.error_code != 0 and version.fingerprint == fingerprint(path)
