"""The embedded server against `tensorflow_model_server`."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..deployment import say
from ..generator import Generator
from ..networks import DEFAULT, exported
from ..payload import Input, describe, make
from ..server import ServerProcess
from ..turns import CALLERS, RATIO, Unavailable, plural, row, side_by_side


def native(options: argparse.Namespace) -> list[str]:
    """The embedded server against `tensorflow_model_server`."""
    base_path = exported(options, DEFAULT)
    lines = [
        f"{DEFAULT}, the same SavedModel in both, taking turns; images/s. {RATIO}",
        "",
        "| input | load | tensorflow_model_server | embedded | ÷ | rounds |",
        "|---|---|--:|--:|--:|--:|",
    ]
    with _native(options.native, base_path) as target, ServerProcess(base_path, DEFAULT) as embedded:
        kinds: tuple[Input, ...] = ("encoded", "uint8", "float")
        metadata = describe(target, DEFAULT)
        for kind in kinds:
            payload = make(metadata, DEFAULT, input=kind)
            with Generator([target], payload) as real, Generator([embedded.target], payload) as ours:
                for callers in (1, CALLERS):
                    begun = f"| {kind} | {plural(callers, 'caller')} |"
                    with row(lines, begun, 4):
                        pair = side_by_side(options, {"tensorflow_model_server": real, "embedded": ours}, callers)
                        lines.append(f"{begun} {pair.text} |")
    return lines


@contextlib.contextmanager
def _native(named: str, base_path: Path) -> Iterator[str]:
    """Yields the address of TensorFlow Serving: the one named, or that of one started from a file.

    Raises:
        Unavailable: there is none here.
    """
    if re.fullmatch(r"\S+:\d+", named):
        say(f"TensorFlow Serving at {named}, which is to serve {base_path} as {DEFAULT}")
        yield named
        return
    binary = shutil.which(named or "tensorflow_model_server")
    if binary is None:
        missing = f"{named} is no program" if named else "tensorflow_model_server is not on PATH"
        raise Unavailable(
            f"{missing}; `--native FILE` names one, `--native HOST:PORT` a server of the same export as {DEFAULT}"
        )
    with tempfile.TemporaryDirectory(prefix="featserve-native-") as folder:
        # The launcher takes it from PATH, by its own name.
        (Path(folder) / "tensorflow_model_server").symlink_to(Path(binary).resolve())
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
        try:
            with ServerProcess(base_path, DEFAULT, runtime="native") as server:
                yield server.target
        finally:
            os.environ["PATH"] = before
