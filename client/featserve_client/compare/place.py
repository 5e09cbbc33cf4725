"""Where the vectors of one side come from, as the user names it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..exceptions import ConfigError
from ..transport.address import check_target

#: What a side may be, for help and errors.
GRAMMAR = (
    "HOST:PORT/MODEL (the latest version), HOST:PORT/MODEL@VERSION, HOST:PORT/MODEL:LABEL, "
    "the directory of an exported version (MODEL_ROOT/NAME/VERSION), "
    "or a .npz or .parquet of featserve embed or extract"
)

#: Suffixes of files that are read as a side.
_FILES = (".npz", ".parquet")
_OTHER_FILES = (".npy", ".h5", ".zarr")
_SERVER = re.compile(r"(?P<target>.+:\d+)/(?P<model>[^/@:]+)(?:@(?P<version>[^@:]*)|:(?P<label>[^@:]+))?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A server's model, an exported version, or a file of vectors."""

    text: str
    kind: Literal["server", "export", "file"]
    path: Path | None = None
    target: str | None = None
    model: str | None = None
    version: int | None = None
    label: str | None = None


def parse_place(text: str) -> Place:
    """Returns the place that an argument names.

    Raises:
        ConfigError: the argument names none; the text says what is expected.

    Example:
        >>> parse_place("localhost:8500/vgg16@3").version
        3
    """
    path = Path(text)
    if path.suffix in _FILES:
        if not path.is_file():
            raise ConfigError(f"{text}: no such file")
        return Place(text=text, kind="file", path=path)
    if path.suffix in _OTHER_FILES:
        raise ConfigError(f"{text}: only {' and '.join(_FILES)} can be compared; write the vectors into one of these")
    if os.path.isdir(text):
        return Place(text=text, kind="export", path=path)
    found = _SERVER.fullmatch(text)
    if found is None:
        raise ConfigError(f"{text!r} names nothing to compare; expected {GRAMMAR}")
    version = found["version"]
    if version is not None and not (version.isascii() and version.isdigit()):
        raise ConfigError(f"{text!r}: the version {version!r} is no number; a label is written HOST:PORT/MODEL:LABEL")
    return Place(
        text=text,
        kind="server",
        target=check_target(found["target"]),
        model=found["model"],
        version=int(version) if version is not None else None,
        label=found["label"],
    )
