"""Cold start."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable

from featserve_client import FeatureClient

from .. import photos
from ..errors import LoadError
from ..networks import DEFAULT, exported
from ..server import ServerProcess
from ..turns import Figures, medians, row, turns


def cold(options: argparse.Namespace) -> list[str]:
    """From process start to the first answer, and its parts."""
    base_path = exported(options, DEFAULT)
    data = photos.files()[0]

    def start(*flags: str) -> Callable[[], Figures]:
        def once() -> Figures:
            began = time.monotonic()
            with ServerProcess(base_path, DEFAULT, flags=flags) as server:
                ready = time.monotonic()
                with FeatureClient(server.target, model=DEFAULT, timeout_s=60) as client:
                    client.extract(data)
                answered = time.monotonic()
                told = re.search(r"is available after ([\d.]+) s", server.log())
            if told is None:
                raise LoadError("the server does not tell how long it loaded")
            loading = float(told.group(1))
            return ready - began - loading, loading, answered - ready, answered - began

        return once

    def importing() -> Figures:
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, stderr=subprocess.DEVNULL, timeout=120)
        return (time.monotonic() - began,)

    cases = {
        "with warm-up": start(),
        "without": start("--enable_model_warmup=false"),
        "importing TensorFlow": importing,
    }
    found = turns(options.rounds, cases)
    lines = [
        f"{DEFAULT}, seconds. Loading includes the warm-up.",
        "",
        "| | process start until loading | loading | first answer | all |",
        "|---|--:|--:|--:|--:|",
    ]
    for what in ("with warm-up", "without"):
        with row(lines, f"| {what} |", 4):
            if what not in found:
                raise LoadError("its server failed")
            lines.append(f"| {what} | " + " | ".join(f"{value:.2f}" for value in medians(found[what])) + " |")
    if "importing TensorFlow" in found:
        lines.append(f"| `import tensorflow` alone | {medians(found['importing TensorFlow'])[0]:.2f} | | | |")
    return lines
