"""Writes a new version of an exported model that batches differently."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..batching import Batching
from ..errors import InvalidOptionError
from ..manifest import Manifest, dump_manifest, read_manifest, write_manifest
from .version_directory import staged
from .warmup import write_warmup
from .writer import rewrite


def rebatch(directory: str | Path, batching: Batching, version: int | None = None) -> Path:
    """Copies a version and changes its queues, in seconds, without weights or a trace.

    Args:
        directory: an exported version.
        batching: the new parameters.
        version: None for the next free one beside it.

    Returns:
        The new version's directory.

    Raises:
        InvalidOptionError: `directory` is no exported version, or the new version exists.
        ExportError: the model root cannot be written; nothing is left behind.
    """
    if version is not None and not 1 <= version < 2**63:
        raise InvalidOptionError(f"expected a version from 1, received {version}")
    source = Path(directory).resolve()
    manifest = _manifest(source)
    with staged(source.parent, version) as (staging, target):
        manifest["version"], manifest["batching"] = int(target.name), batching.as_dict()
        shutil.copytree(source, staging, dirs_exist_ok=True)
        rewrite(staging, dump_manifest(manifest), batching, f"{manifest['model']}/{target.name}")
        write_manifest(staging, manifest)
        write_warmup(staging, manifest)
    return target


def _manifest(directory: Path) -> Manifest:
    try:
        manifest = read_manifest(directory)
        if not (directory / "saved_model.pb").is_file() or not {"model", "signatures"} <= manifest.keys():
            raise ValueError("a SavedModel or its manifest is missing")
        return manifest
    except (OSError, ValueError) as error:
        raise InvalidOptionError(
            f"expected the directory of an exported version, such as build/models/vgg16/1, received {directory}: "
            f"{error}"
        ) from error
