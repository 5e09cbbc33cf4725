"""Cold start."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable

import psutil
from featserve_client import FeatureClient

from .. import photos
from ..errors import LoadError
from ..networks import DEFAULT, exported
from ..server import ServerProcess
from ..turns import Figures, medians, row, turns


def cold(options: argparse.Namespace) -> list[str]:
    """From process start to the first answer, its parts, and the memory then."""
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
                memory = psutil.Process(server.pid).memory_info()
                told = re.search(r"is available after ([\d.]+) s", server.log())
            if told is None:
                raise LoadError("the server does not tell how long it loaded")
            loading = float(told.group(1))
            own = (memory.rss - memory.shared) / 2**20
            return ready - began - loading, loading, answered - ready, answered - began, memory.rss / 2**20, own

        return once

    cases = {
        "with warm-up": start(),
        "without": start("--enable_model_warmup=false"),
    }
    found = turns(options.rounds, cases)
    lines = [
        f"{DEFAULT}, seconds, and resident MiB after the first answer. Loading includes the warm-up. What is not the "
        "process's own are pages of files, most of them TensorFlow's library, which the kernel shares and may drop.",
        "",
        "| | process start until loading | loading | first answer | all | resident | of it its own |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for what in ("with warm-up", "without"):
        with row(lines, f"| {what} |", 6):
            if what not in found:
                raise LoadError("its server failed")
            *seconds, resident, own = medians(found[what])
            figures = [f"{value:.2f}" for value in seconds] + [f"{resident:.0f}", f"{own:.0f}"]
            lines.append(f"| {what} | {' | '.join(figures)} |")
    return lines
