"""TensorFlow's library, loaded with oneDNN and without its lines about CUDA, which come before any setting."""

from __future__ import annotations

import os
import re
import sys
import tempfile

from ..c_api.library import library

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_START_UP = re.compile(rb"WARNING: All log messages before absl::InitializeLog|I\d{4} ")


def load_library() -> None:
    """Loads TensorFlow's library; what else it writes to stderr meanwhile is shown once it is there.

    Where the environment sets `TF_CPP_MIN_LOG_LEVEL`, all of its lines are shown; where it sets
    `TF_ENABLE_ONEDNN_OPTS`, that holds.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
        SetupError: this TensorFlow has no such library.
    """
    # TensorFlow itself leaves oneDNN off where the processor has no AVX512-VNNI, and then computes at half the speed.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if _LEVEL in os.environ:
        library()
    else:
        _load_quietly()


def _load_quietly() -> None:
    os.environ[_LEVEL] = "3"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as lines:
        stderr = os.dup(2)
        os.dup2(lines.fileno(), 2)
        try:
            library()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            lines.seek(0)
            os.write(2, b"".join(line for line in lines if not _START_UP.match(line)))
