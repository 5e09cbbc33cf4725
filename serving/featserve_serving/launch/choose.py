"""Which server to run."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from ..errors import SetupError
from . import docker, embedded, native, process
from .flags import Flags
from .quiet_library import load_library


def serve(flags: Flags) -> int:
    """Serves until a signal comes; returns the exit status.

    Raises:
        SetupError: the server cannot start as asked.
    """
    _check_models(flags)
    runtime, why = choose(flags.runtime)
    print(f"featserve-serve: runtime {runtime}: {why}", file=sys.stderr)
    if runtime == "embedded":
        load_library()
        return embedded.serve(flags)
    server_command = {"docker": docker, "native": native}[runtime].server_command
    with tempfile.TemporaryDirectory(prefix="featserve-") as folder:
        return process.run(server_command(flags, Path(folder)))


def choose(wanted: str) -> tuple[str, str]:
    """Returns the runtime, and why it is that one.

    Raises:
        SetupError: the runtime that was asked for cannot be run here.
    """
    if wanted == "embedded":
        return wanted, "asked for"
    reasons = {"docker": docker.unavailable, "native": native.unavailable}
    if wanted in reasons:
        if reason := reasons[wanted]():
            raise SetupError(f"--runtime {wanted}: {reason}; --runtime embedded needs neither")
        return wanted, "asked for"
    found: list[str] = []
    for runtime, reason_of in reasons.items():
        reason = reason_of()
        if reason is None:
            return runtime, "; ".join([*found, "this one is there"])
        found.append(reason)
    return "embedded", "; ".join(found)


def _check_models(flags: Flags) -> None:
    names = ("model_root", "model_base_path", "model_config_file")
    given = sum(getattr(flags, name) is not None for name in names)
    if given != 1:
        raise SetupError(f"give exactly one of {', '.join('--' + name for name in names)}; received {given}")
