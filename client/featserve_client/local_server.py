"""A server of one exported version in a process of its own, on loopback: it ends with whoever started it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

from .exceptions import ConfigError, ConnectError, MissingExtraError

#: What `featserve-serve` prints when a model is ready: `serving NAME (version N, …) at HOST:PORT`.
_READY = "serving "
_STOP_S = 30.0
# The server's standard input is closed however its owner ends, and nothing is ever written to it.
_PROGRAM = """
import os, signal, sys, threading
def watch():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from featserve_serving.launch.cli import main
sys.exit(main(sys.argv[1:]))
"""


def check_export(path: str | os.PathLike[str]) -> Path:
    """Returns the directory of an exported version.

    Raises:
        ConfigError: the directory is not `<model_root>/<name>/<version>`.
    """
    version = Path(path).absolute()
    if not version.name.isdigit() or not (version / "saved_model.pb").is_file():
        raise ConfigError(f"{os.fspath(path)}: expected an exported version, MODEL_ROOT/NAME/VERSION")
    return version


class LocalServer:
    """Serves one exported version at `address` until it is closed, collected, or its process ends.

    Raises:
        MissingExtraError: the server's package is not installed.
        ConnectError: the server does not start; the text ends with its last words.
    """

    def __init__(self, version: Path) -> None:
        """Starts the server, and waits until its model is loaded."""
        if any(importlib.util.find_spec(name) is None for name in ("featserve_serving", "tensorflow", "starlette")):
            raise MissingExtraError("a server of one's own needs more: pip install 'featserve[serving]'")
        folder = tempfile.TemporaryDirectory(prefix="featserve-")
        # Only this version: the directory of the model may hold others.
        model = Path(folder.name) / version.parent.name
        model.mkdir()
        (model / version.name).symlink_to(version, target_is_directory=True)
        command = [sys.executable, "-c", _PROGRAM, "--runtime=embedded", "--port=0", "--rest_api_port=-1"]
        command += [f"--model_base_path={model}", f"--model_name={version.parent.name}"]
        log = Path(folder.name) / "log"
        with log.open("w") as stderr:
            # A session of its own: Ctrl-C is the caller's to answer.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self._finalizer = weakref.finalize(self, _stop, process, folder, os.getpid())
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith(_READY):
                words = log.read_text(errors="replace").strip().splitlines()
                raise ConnectError(f"the server of {version} did not start: {words[-1] if words else line}")
            self.address = f"127.0.0.1:{int(line.rpartition(':')[2])}"
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the server."""
        self._finalizer()


def _stop(process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str], owner: int) -> None:
    if os.getpid() != owner:  # a fork has a copy of the client, and leaves the server alone
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    folder.cleanup()
