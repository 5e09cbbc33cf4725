"""A version's directory, written beside its place and renamed: a server that polls never sees half a model.

The name of a directory that is being written tells whose it is: `.staging-<version>-<host>-<process>-<random>`. No
locks are taken, for network file systems refuse them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ExportError, InvalidOptionError
from ..options import check_free

_STAGING = re.compile(r"\.staging-(?P<version>\d+)-(?P<host>.*)-(?P<process>\d+\.\d+)-[^-]+")
_RESERVING_TRIES = 40
_MOST_WAIT_S = 0.05
# Whether a process of another host still runs cannot be known: no export takes as long.
_ABANDONED_S = 24 * 3600.0


def next_version(model_directory: Path) -> int:
    """One more than the newest version there, those being written included; 1 where there is none."""
    if not model_directory.is_dir():
        return 1
    return max((_version(path) for path in model_directory.iterdir()), default=0) + 1


def _version(path: Path) -> int:
    number = match["version"] if (match := _STAGING.fullmatch(path.name)) else path.name
    return int(number) if number.isdecimal() else 0


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
        staging, directory = _reserve(model_directory, version)
    except OSError as error:
        raise ExportError(f"cannot write the model root: {error}; choose another with --model-root") from error
    try:
        yield staging, directory
        check_free(directory)
        staging.chmod(0o755)
        staging.rename(directory)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(f"no space left for {directory}; free some or choose another --model-root") from error
        raise ExportError(f"cannot write {directory}: {error}") from error
    except Exception as error:
        # TensorFlow has an error of its own for a full disk.
        if os.strerror(errno.ENOSPC) in str(error):
            raise ExportError(f"no space left for {directory}; free some or choose another --model-root") from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not empty where there are other versions
            model_directory.rmdir()


def _reserve(model_directory: Path, version: int | None) -> tuple[Path, Path]:
    """Makes the directory to write into: of two exports that want one version at once both step back and try again."""
    rival: Path | None = None
    unwritable: FileNotFoundError | None = None
    for _ in range(_RESERVING_TRIES):
        try:
            model_directory.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(model_directory)
            number = version or next_version(model_directory)
            prefix = f".staging-{number}-{_this_host()}-{_this_process()}-"
            staging = Path(tempfile.mkdtemp(prefix=prefix, dir=model_directory))
            rival = next((path for path in _stagings(model_directory, number) if path != staging), None)
        except FileNotFoundError as error:
            unwritable = error
            continue  # another export removed the model directory, which was empty
        if rival is None:
            try:
                check_free(model_directory / str(number))
            except InvalidOptionError:
                shutil.rmtree(staging)
                with contextlib.suppress(OSError):
                    model_directory.rmdir()
                if version is not None:
                    raise
                continue
            return staging, model_directory / str(number)
        shutil.rmtree(staging)
        time.sleep(random.uniform(0, _MOST_WAIT_S))
    if rival is None and unwritable is not None:
        raise unwritable
    raise InvalidOptionError(
        f"expected a version of which no export is under way, received {version} in {model_directory}, where "
        f"{rival and rival.name} is being written; leave --version out for the next free one"
    )


def _stagings(model_directory: Path, version: int) -> list[Path]:
    return [path for path in model_directory.glob(f".staging-{version}-*") if _STAGING.fullmatch(path.name)]


def _remove_abandoned(model_directory: Path) -> None:
    for path in model_directory.glob(".staging-*"):
        match = _STAGING.fullmatch(path.name)
        if match is None or _is_abandoned(path, match["host"], match["process"]):
            shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: Path, host: str, process: str) -> bool:
    if host == _this_host():
        number, start = process.split(".")
        return _start_of(int(number)) != start
    try:
        return time.time() - max(entry.stat().st_mtime for entry in (path, *path.rglob("*"))) > _ABANDONED_S
    except OSError:
        return False


def _this_host() -> str:
    """The host's name and its numbering of processes: containers of one name do not see each other's."""
    return f"{re.sub(r'[^A-Za-z0-9.]', '_', socket.gethostname())}.{os.stat('/proc/self/ns/pid').st_ino}"


def _this_process() -> str:
    """The process' number and when it began: numbers are used again."""
    return f"{os.getpid()}.{_start_of(os.getpid())}"


def _start_of(process: int) -> str | None:
    """When a process began, in clock ticks since the machine did; None where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # Reference: proc(5), field 22; the second field, in parentheses, is the command's name.
    return None if fields[0] in ("Z", "X") else fields[19]
