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

from .errors import ExportError, InvalidOptionError

_STAGING_PREFIX = ".staging-"


def next_version(model_directory: Path) -> int:
    """One more than the newest version there, those being written included; 1 where there is none."""
    if not model_directory.is_dir():
        return 1
    return max((_version(path) for path in model_directory.iterdir()), default=0) + 1


def _version(path: Path) -> int:
    number = path.name.removeprefix(_STAGING_PREFIX).partition("-")[0]
    return int(number) if number.isdecimal() else 0


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
def staged(model_directory: Path, version: int | None = None) -> Iterator[tuple[Path, Path]]:
    """Yields an empty directory and what it becomes when the block ends without an error; otherwise it vanishes.

    The version is this export's alone from the start. What a killed export left is removed by the next one.

    Args:
        model_directory: `<model_root>/<model_name>`.
        version: None for the next free one.

    Raises:
        InvalidOptionError: the version exists or is being written.
        ExportError: the model root cannot be written or is full.
    """
    try:
        staging, lock, directory = _locked_staging(model_directory, version)
    except OSError as error:
        raise ExportError(f"cannot write the model root: {error}; choose another with --model-root") from error
    try:
        yield staging, directory
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
        # It is not empty where there are other versions.
        with contextlib.suppress(OSError), _one_at_a_time(model_directory):
            model_directory.rmdir()


def _locked_staging(model_directory: Path, version: int | None) -> tuple[Path, int, Path]:
    for _ in range(100):
        # Another export may remove the empty model directory: it is made again.
        with contextlib.suppress(FileNotFoundError):
            model_directory.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(model_directory):
                _remove_abandoned(model_directory)
                directory = model_directory / str(version or next_version(model_directory))
                check_free(directory)
                prefix = f"{_STAGING_PREFIX}{directory.name}-"
                if any(model_directory.glob(f"{prefix}*")):
                    raise InvalidOptionError(
                        f"expected a version of which no export is under way, received {directory.name} in "
                        f"{model_directory}; leave --version out for the next free one"
                    )
                staging = Path(tempfile.mkdtemp(prefix=prefix, dir=model_directory))
                return staging, _lock(staging), directory
    raise FileNotFoundError(f"{model_directory} keeps vanishing")


@contextmanager
def _one_at_a_time(model_directory: Path) -> Iterator[None]:
    lock = _lock(model_directory, wait=True)
    try:
        if not os.path.samestat(os.fstat(lock), model_directory.stat()):
            raise FileNotFoundError(model_directory)
        yield
    finally:
        os.close(lock)


def _lock(directory: Path, *, wait: bool = False) -> int:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
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
