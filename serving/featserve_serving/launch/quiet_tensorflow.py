"""TensorFlow, imported with oneDNN, without Keras, and without its lines about CUDA, which come before any setting."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_START_UP = re.compile(rb"WARNING: All log messages before absl::InitializeLog|I\d{4} ")


def import_tensorflow() -> Any:
    """Imports TensorFlow; what else it writes to stderr meanwhile is shown once it is there.

    Where the environment sets `TF_CPP_MIN_LOG_LEVEL`, all of its lines are shown; where it sets
    `TF_ENABLE_ONEDNN_OPTS`, that holds.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    # TensorFlow itself leaves oneDNN off where the processor has no AVX512-VNNI, and then computes at half the speed.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with _without_keras():
        if _LEVEL in os.environ:
            return importlib.import_module("tensorflow")
        return _import_quietly()


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Keeps TensorFlow from importing Keras, and Matplotlib with it, which a server never calls.

    Keras is a third of the time that the import takes, and a hundred MiB.
    """
    hidden = "keras" not in sys.modules
    if hidden:
        sys.modules["keras"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["keras"]


def _import_quietly() -> Any:
    os.environ[_LEVEL] = "3"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as lines:
        stderr = os.dup(2)
        os.dup2(lines.fileno(), 2)
        try:
            return importlib.import_module("tensorflow")
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            lines.seek(0)
            os.write(2, b"".join(line for line in lines if not _START_UP.match(line)))
