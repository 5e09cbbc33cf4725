"""When requests are due, in seconds from the start."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Arrivals = Literal["poisson", "constant"]


def due(arrivals: Arrivals, rate: float, duration_s: float, seed: int) -> npt.NDArray[np.float64]:
    """Returns ascending times in `[0, duration_s)`.

    Args:
        arrivals: `poisson` for independent callers, `constant` for a metronome.
        rate: requests per second.
        duration_s: length of the schedule.
        seed: of the Poisson process.
    """
    if arrivals == "constant":
        return np.arange(int(np.ceil(rate * duration_s))) / rate
    random = np.random.default_rng(seed)
    # A Poisson process on an interval is a Poisson number of uniform times.
    return np.sort(random.uniform(0, duration_s, random.poisson(rate * duration_s)))
