"""How fast answers come when they come in batches."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def steady(answered: npt.ArrayLike) -> float:
    """Returns answers per second: the slope of their count over time.

    A window holds a whole number of batches or nearly one more: counting its answers is off by up to a batch at either
    end, which at 8 images/s in batches of 8 is a second's worth. The line through the steps is not.

    Args:
        answered: ascending seconds, of a closed loop past its beginning; nan is returned for fewer than two.
    """
    times = np.asarray(answered, dtype=np.float64)
    if len(times) < 2 or times[0] == times[-1]:
        return math.nan
    return float(np.polyfit(times - times[0], np.arange(len(times)), 1)[0])
