"""A `.keras` archive as a directory: Keras reads an archive's weights all at once, and a directory's layer by layer."""

from __future__ import annotations

import errno
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from ..errors import WeightsError

_WEIGHTS = "model.weights.h5"
_FILES = ("config.json", "metadata.json", _WEIGHTS)
_ASSETS = "assets/"
# Those of Keras (saving_lib.py): it stores weights as they are, and a bomb's members are nearly all emptiness.
_HARMLESS_BYTES = 256 << 20
_MOST_EXPANSION = 100


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Unpacks what Keras reads of an archive into a temporary directory, which goes when the block ends.

    Args:
        path: a `.keras` file.

    Yields:
        The directory, as `keras.models.load_model` takes it.

    Raises:
        ValueError: the file is no archive of Keras, or unpacks to far more than it holds.
        WeightsError: the directory for temporary files is full.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("a file that is no zip archive, as .keras files are")
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="featserve-") as folder:
        members = [info for info in archive.infolist() if _is_read(info.filename)]
        _check(members, path.stat().st_size)
        try:
            for info in members:
                archive.extract(info, folder)  # which keeps every name inside the folder
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            needed = sum(info.file_size for info in members) / 1e6
            raise WeightsError(
                f"no space left in {tempfile.gettempdir()}, where {path} takes {needed:,.0f} MB unpacked; free some, "
                "or name another directory with the environment variable TMPDIR"
            ) from error
        h5py.File(Path(folder, _WEIGHTS)).close()  # Keras hides the error of a damaged file behind one of its own
        yield Path(folder)


def _is_read(name: str) -> bool:
    return name in _FILES or name.startswith(_ASSETS)


def _check(members: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    if missing := set(_FILES) - {info.filename for info in members}:
        raise ValueError(f"an archive without {', '.join(sorted(missing))}")
    for info in members:
        if info.file_size > max(_HARMLESS_BYTES, _MOST_EXPANSION * info.compress_size):
            raise ValueError(
                f"an archive whose member {info.filename} would grow from {info.compress_size} to {info.file_size} "
                "bytes, as a decompression bomb does"
            )
    if sum(info.compress_size for info in members) > archive_bytes:
        raise ValueError("an archive whose members overlap, as those of a decompression bomb do")
