"""The model without a server: what the machine gives when nothing is sent. Reads seconds, prints images per second."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np

from . import photos


def main(directory: str, signature: str, callers: int = 32) -> None:
    """Measure whenever a line with a number of seconds comes in."""
    import tensorflow as tf

    function = tf.saved_model.load(directory).signatures[signature]
    files = photos.files()
    [(name, spec)] = function.structured_input_signature[1].items()
    if spec.dtype == tf.string:
        inputs = [tf.constant([data]) for data in files]
    else:
        inputs = [tf.constant(np.stack([image])) for image in photos.pixels(files, (224, 224))]
        inputs = [tf.cast(value, spec.dtype) for value in inputs]

    def call_until(end: float, done: list[int], index: int) -> None:
        turn = index
        while time.monotonic() < end:
            function(**{name: inputs[turn % len(inputs)]})
            done[index] += 1
            turn += 1

    def measure(seconds: float) -> float:
        done = [0] * callers
        start = time.monotonic()
        team: list[Any] = [
            threading.Thread(target=call_until, args=(start + seconds, done, index)) for index in range(callers)
        ]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        return sum(done) / (time.monotonic() - start)

    measure(1.0)
    print("ready", flush=True)
    for line in sys.stdin:
        print(measure(float(line)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
