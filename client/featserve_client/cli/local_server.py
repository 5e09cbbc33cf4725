"""A server of its own for one command: `--export DIR` starts it, and it ends with the command."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..exceptions import ConfigError, ConnectError, MissingExtraError

#: What `featserve-serve` prints when it is ready: `serving NAME (version N) at HOST:PORT`.
_READY = "serving "


def check_export(path: str) -> Path:
    """Return the directory of an exported version.

    Raises:
        ConfigError: The directory is not `<model_root>/<name>/<version>`.
    """
    version = Path(path).absolute()
    if not version.name.isdigit() or not (version / "saved_model.pb").is_file():
        raise ConfigError(f"--export {path}: expected an exported version, MODEL_ROOT/NAME/VERSION")
    return version


@contextlib.contextmanager
def local_server(version: Path) -> Iterator[str]:
    """Serve one exported version from a process of its own; give its address.

    Raises:
        MissingExtraError: The server's package is not installed.
        ConnectError: The server does not start; the text ends with its last words.
    """
    if any(importlib.util.find_spec(name) is None for name in ("featserve_serving", "tensorflow", "starlette")):
        raise MissingExtraError("--export needs the server: pip install 'featserve[serving]'")
    with tempfile.TemporaryDirectory(prefix="featserve-") as folder, tempfile.TemporaryFile("w+") as log:
        # Only this version: the directory of the model may hold others.
        model = Path(folder) / version.parent.name
        model.mkdir()
        (model / version.name).symlink_to(version, target_is_directory=True)
        command = [sys.executable, "-m", "featserve_serving", "--runtime=embedded", "--port=0", "--rest_api_port=-1"]
        command += [f"--model_base_path={model}", f"--model_name={version.parent.name}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                if not line.startswith(_READY):
                    log.seek(0)
                    words = log.read().strip().splitlines()
                    raise ConnectError(f"the server of {version} did not start: {words[-1] if words else line}")
                yield f"127.0.0.1:{int(line.rpartition(':')[2])}"
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
