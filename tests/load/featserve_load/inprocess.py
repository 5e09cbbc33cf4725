"""The model without a server: what the machine gives when nothing is sent.

Reads lines with seconds of warm-up, seconds to measure, threads and images a call; prints images per second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from . import photos, rate
from .errors import LoadError
from .server import ROOT


class InProcess:
    """This module in a process of its own; a context manager."""

    def __init__(self, directory: Path, signature: str, size: tuple[int, int], start_s: float = 300.0) -> None:
        self._command = [sys.executable, "-m", "featserve_load.inprocess", str(directory), signature, *map(str, size)]
        self._start_s = start_s

    def __enter__(self) -> InProcess:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/load"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        try:
            self._line(self._start_s)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def images_per_s(self, seconds: float, warmup_s: float = 0.5, *, callers: int = 32, images: int = 1) -> float:
        """Measures once: threads that call, and images in each of their calls."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{warmup_s} {seconds} {callers} {images}\n")
        self._process.stdin.flush()
        return float(self._line(warmup_s + seconds + 120))

    def _line(self, timeout_s: float) -> str:
        assert self._process.stdout is not None
        # Past the time the process is ended, and the line is empty.
        alarm = threading.Timer(timeout_s, self._process.kill)
        alarm.start()
        try:
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if not line:
            self._log.seek(0)
            log = self._log.read().decode(errors="replace")[-2000:]
            raise LoadError(f"the model in process ended with status {self._process.wait(20)}: {log}")
        return line

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


def main(directory: str, signature: str, height: str, width: str) -> None:
    """Measures whenever a line comes in; `height` and `width` are those of the network."""
    import tensorflow as tf

    function = tf.saved_model.load(directory).signatures[signature]
    files = photos.files()
    [(name, spec)] = function.structured_input_signature[1].items()
    items: list[Any] = files if spec.dtype == tf.string else photos.pixels(files, (int(height), int(width)))

    def call_until(end: float, inputs: list[Any], turn: int, answered: list[float]) -> None:
        while time.monotonic() < end:
            function(**{name: inputs[turn % len(inputs)]})
            answered.append(time.monotonic())
            turn += 1

    def measure(warmup_s: float, seconds: float, callers: int, images: int) -> float:
        batches = [[items[(start + place) % len(items)] for place in range(images)] for start in range(len(items))]
        inputs = [tf.constant(batch if spec.dtype == tf.string else np.stack(batch), spec.dtype) for batch in batches]
        answered: list[list[float]] = [[] for _ in range(callers)]
        begin = time.monotonic() + warmup_s
        end = begin + seconds
        team: list[Any] = [
            threading.Thread(target=call_until, args=(end, inputs, index * len(inputs) // callers, answered[index]))
            for index in range(callers)
        ]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        return images * rate.steady(sorted(when for times in answered for when in times if begin <= when < end))

    measure(0.0, 1.0, 32, 1)
    print("ready", flush=True)
    for line in sys.stdin:
        warmup_s, seconds, callers, images = line.split()
        print(measure(float(warmup_s), float(seconds), int(callers), int(images)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
