"""How long a backbone takes for an image on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from .graph.freeze import INPUT_NAME, freeze
from .graph.grouped_convolutions import plain_grouped_convolutions
from .options import ExportOptions
from .precision import fetches, open_session
from .progress import Progress, silent
from .sources.load import load_live_model

_LEAST_ROUNDS = 3
_MEASURED_S = 1.0


def measure_each(backbones: Sequence[str], *, progress: Progress = silent) -> Iterator[tuple[str, float]]:
    """Times backbones one after the other, with random weights in float32, at their own sizes.

    Args:
        backbones: names of `list_backbones`.
        progress: called with the stage's name, how many were measured and how many there are.

    Yields:
        The name, and the milliseconds of one image alone: the median of runs of a second, on all cores.
    """
    for done, name in enumerate(backbones):
        progress("measuring", done, len(backbones))
        yield name, _milliseconds(name)
    progress("measuring", len(backbones), len(backbones))


def _milliseconds(name: str) -> float:
    live = load_live_model(ExportOptions(name, weights="random"))
    with plain_grouped_convolutions():
        frozen = freeze(live.activations, live.layers, live.image_size)
    image = np.random.default_rng(0).uniform(0, 255, (1, *live.image_size, 3)).astype(np.float32)
    seconds: list[float] = []
    with open_session(frozen) as session:
        # The first run optimises the graph.
        session.run(fetches(frozen), {f"{INPUT_NAME}:0": image})
        while len(seconds) < _LEAST_ROUNDS or sum(seconds) < _MEASURED_S:
            start = time.perf_counter()
            session.run(fetches(frozen), {f"{INPUT_NAME}:0": image})
            seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))
