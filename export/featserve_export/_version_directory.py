"""A version's directory, written beside its place and renamed: a server that polls never sees half a model."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from ._errors import ExportError, InvalidOptionError

_STAGING_PREFIX = ".staging-"


def next_version(model_directory: Path) -> int:
    """One more than the newest version there, 1 where there is none."""
    if not model_directory.is_dir():
        return 1
    return max((int(path.name) for path in model_directory.iterdir() if path.name.isdecimal()), default=0) + 1


def check_free(directory: Path) -> None:
    """Refuses a version that exists.

    Raises:
        InvalidOptionError: `directory` is there.
    """
    if directory.exists():
        raise InvalidOptionError(
            f"expected a version that does not exist, received {directory.name}, which is in {directory.parent}; "
            "leave --version out for the next free one, or delete that directory"
        )


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Yields an empty directory that becomes `directory` when the block ends without an error, and vanishes otherwise.

    What a killed export left is removed by the next one.

    Args:
        directory: `<model_root>/<model_name>/<version>`.

    Raises:
        InvalidOptionError: the version exists.
        ExportError: the model root cannot be written or is full.
    """
    check_free(directory)
    model_directory = directory.parent
    try:
        staging, lock = _locked_staging(model_directory)
    except OSError as error:
        raise ExportError(f"cannot write the model root: {error}; choose another with --model-root") from error
    try:
        yield staging
        check_free(directory)
        staging.chmod(0o755)
        staging.rename(directory)
    except tf.errors.ResourceExhaustedError as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise ExportError(f"no space left for {directory}; free some or choose another --model-root") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(f"no space left for {directory}; free some or choose another --model-root") from error
        raise ExportError(f"cannot write {directory}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)
        with contextlib.suppress(OSError):  # other versions are in it
            model_directory.rmdir()


def _locked_staging(model_directory: Path) -> tuple[Path, int]:
    for _ in range(100):
        # Another export may remove what is not locked yet: then its files are not there, and it is tried again.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            model_directory.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(model_directory)
            staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=model_directory))
            lock = _lock(staging)
            if staging.exists():
                return staging, lock
            os.close(lock)
    raise FileNotFoundError(f"{model_directory} keeps vanishing")


def _lock(directory: Path) -> int:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_abandoned(model_directory: Path) -> None:
    for path in model_directory.glob(f"{_STAGING_PREFIX}*"):
        try:
            descriptor = _lock(path)
        except OSError:
            continue  # another export is writing it
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)
