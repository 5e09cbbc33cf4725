"""What decoding and resizing cost in the graph, against Pillow and against pixels that need neither."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from .. import photos
from ..deployment import say
from ..errors import LoadError
from ..generator import Generator
from ..networks import DEFAULT, exported
from ..payload import Input, describe, make
from ..server import ROOT, ServerProcess
from ..turns import CALLERS, RATIO, Figures, pair_of, plural, row, side_by_side, turns

#: Width and height of the photo, and calls that make up a figure.
SIZES = {(320, 240): 30, (640, 427): 20, (3000, 2000): 3}
TARGET = (224, 224)
#: Width and height of the photos that are sent to a server.
SENT = (640, 427)


def pixels(options: argparse.Namespace) -> list[str]:
    """CPU time of one thread, in a process of its own: TensorFlow takes its number of threads but once."""
    command = [sys.executable, "-m", "featserve_load.sections.pixels", str(options.rounds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/load"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise LoadError(f"its process ended with {done.returncode}")
    return done.stdout.splitlines()


def in_the_server(options: argparse.Namespace) -> list[str]:
    """JPEGs against pixels of the network's size, by one caller and by many."""
    lines = [
        f"{DEFAULT}; the same photos as JPEGs of {SENT[0]}x{SENT[1]} and as uint8 pixels of the network's size, one a "
        f"request; images/s. {RATIO}",
        "",
        "| callers | pixels | JPEGs | ÷ | rounds |",
        "|--:|--:|--:|--:|--:|",
    ]
    base_path = exported(options, DEFAULT)
    files = [photos.jpeg(photo.resize(SENT)) for photo in photos.packaged()]
    kinds: dict[str, Input] = {"pixels": "uint8", "JPEGs": "encoded"}
    with ServerProcess(base_path, DEFAULT) as server, contextlib.ExitStack() as stack:
        metadata = describe(server.target, DEFAULT)
        generators = {}
        for name, kind in kinds.items():
            payload = make(metadata, DEFAULT, input=kind, encoded=files)
            generators[name] = stack.enter_context(Generator([server.target], payload, processes=1))
        for callers in (1, CALLERS):
            with row(lines, f"| {callers} |", 4):
                say(plural(callers, "caller"))
                lines.append(f"| {callers} | {side_by_side(options, generators, callers).text} |")
    return lines


def _measure(rounds: int) -> list[str]:
    lines = [
        f"One JPEG to {TARGET[0]}x{TARGET[1]}, CPU time of one thread in ms, {RATIO}",
        "",
        "| photo | interpolation | Pillow | graph | ÷ | rounds |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for size, calls in SIZES.items():
        data = photos.jpeg(photos.packaged()[0].resize(size))
        for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
            resampling = Image.Resampling[name.upper()]
            served = _graph(name, data)
            if not np.array_equal(served(), _pillow(data, resampling)):
                raise LoadError(f"{name} of {size} is not Pillow's")
            cases = {
                "Pillow": _cpu_ms(functools.partial(_pillow, data, resampling), calls),
                "graph": _cpu_ms(served, calls),
            }
            text = pair_of(turns(rounds, cases), "Pillow", "graph").text
            lines.append(f"| {size[0]}x{size[1]} | {name} | {text} |")
    return lines


def _pillow(data: bytes, resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize(TARGET, resampling))


def _graph(interpolation: str, data: bytes) -> Callable[[], np.ndarray]:
    import tensorflow as tf
    from featserve_export.pixels.decode import decode_and_resize
    from tensorflow.core.protobuf import config_pb2

    with tf.Graph().as_default() as graph:
        image_bytes = tf.compat.v1.placeholder(tf.string, [None])
        levels = decode_and_resize(
            image_bytes,
            image_size=TARGET[::-1],
            interpolation=interpolation,
            crop_to_aspect_ratio=False,
            max_pixels=1 << 25,
        )
    session = tf.compat.v1.Session(graph=graph)
    callable_options = config_pb2.CallableOptions(feed=[image_bytes.name], fetch=[levels.name])
    run = session._make_callable_from_options(callable_options)
    request = np.array([data], object)
    return lambda: run(request)[0][0]


def _cpu_ms(call: Callable[[], object], calls: int) -> Callable[[], Figures]:
    """The median of some calls."""

    def once() -> Figures:
        call()
        figures = []
        for _ in range(calls):
            began = time.process_time()
            call()
            figures.append(1000 * (time.process_time() - began))
        return (statistics.median(figures),)

    return once


if __name__ == "__main__":
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print("\n".join(_measure(int(sys.argv[1]))))
